"""nvidia-smi as a stream: one long-lived process prints table after table. One rule: it may hang or die, we do not.

A table ends where the process pauses, since it prints all rows at once and then waits.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess

PERIOD_MS = 1000
PAUSE_S = 0.15
MAX_LINE = 4096
MAX_NAME = 80
MAX_ROWS = 256
GPU_FIELDS = (
    "index,uuid,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,power.limit,"
    "clocks.sm,fan.speed,pstate,driver_version"
)
APP_FIELDS = "pid,process_name,used_memory,gpu_uuid"
_CUDA = re.compile(r"CUDA Version:\s*([0-9.]+)")


class SmiError(OSError):
    """nvidia-smi is not there, has ended, or is silent."""


class Stream:
    """Tables of one query. `next_table` blocks at most as long as it is told."""

    def __init__(self, query: str, fields: str) -> None:
        argv = ["nvidia-smi", f"--query-{query}={fields}", "--format=csv,noheader,nounits"]
        try:
            self._child = subprocess.Popen(
                [*argv, "-lms", str(PERIOD_MS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SmiError(f"nvidia-smi cannot be run: {error.strerror}") from error
        assert self._child.stdout is not None  # noqa: S101 - asked for above
        self._out = self._child.stdout.fileno()
        self._data = b""

    def next_table(self, timeout_s: float) -> list[list[str]] | None:
        """The rows up to the next pause, as stripped fields; None when nothing came. Raises SmiError at its end."""
        rows: list[list[str]] = []
        wait_s = timeout_s
        while select.select([self._out], [], [], wait_s)[0]:
            data = os.read(self._out, 1 << 16)
            if not data:
                raise SmiError(self._last_words(rows))
            *lines, self._data = (self._data + data).split(b"\n")
            self._data = self._data[:MAX_LINE]
            for line in lines[:MAX_ROWS]:
                rows.append([field.strip() for field in line[:MAX_LINE].decode("utf-8", "replace").split(",")])
            if len(rows) > MAX_ROWS:
                raise SmiError("nvidia-smi prints without end")
            wait_s = PAUSE_S
        return rows or None

    def close(self) -> None:
        """Ends the process and whatever it started."""
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._child.poll()
        if self._child.stdout is not None:
            self._child.stdout.close()
        try:
            self._child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return  # in the kernel with the driver; it is reaped when that lets go

    def _last_words(self, rows: list[list[str]]) -> str:
        said = sentence(rows) if rows else self._data.decode("utf-8", "replace").strip()
        try:
            status = self._child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            status = -1
        return said[:200] if said else f"nvidia-smi ended with status {status}"


def sentence(rows: list[list[str]]) -> str:
    """What it printed instead of a table, as one line."""
    return "; ".join(", ".join(row) for row in rows[:5])[:200]


def cuda(timeout_s: float = 5.0) -> str | None:
    """The CUDA version that the driver supports, from the default table; None when it does not say."""
    try:
        done = subprocess.run(
            ["nvidia-smi"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _CUDA.search(done.stdout[:65536].decode("utf-8", "replace"))
    return found.group(1) if found else None


def number(text: str) -> float | None:
    """A figure, or None for `[N/A]`, `[Not Supported]`, `ERR!` and whatever else stands for no figure."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None


def gpu_row(fields: list[str]) -> tuple[list[object], str | None] | None:
    """One GPU in the order of report.GPU_FIELDS and what is wrong with it; None for a line that is no row."""
    if len(fields) < 12 or not fields[0].isdigit():
        return None
    row: list[object] = [int(fields[0][:4]), fields[1][:MAX_NAME], fields[2][:MAX_NAME]]
    row += [number(text) for text in fields[3:11]]
    row.append(fields[11] if re.match(r"P\d+$", fields[11]) else None)
    broken = any(text.startswith(("ERR", "[Unknown Error", "[GPU is lost")) for text in fields[3:11])
    return row, f"GPU {fields[0]} reports errors instead of figures" if broken else None
