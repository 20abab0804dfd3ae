"""The machine's processes, read from /proc once a second. One rule: a vanished process is normal.

CPU and disk figures of the machine are sums over what it runs: in a container /proc/stat and /proc/diskstats show the
whole host, which is not ours.
"""

from __future__ import annotations

import os
import time

from core.agent import place

MAX_PROCESSES = 4096
MAX_NAME = 60
TICKS = float(os.sysconf("SC_CLK_TCK"))
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 1048576.0


class Seen:
    """One process over time: what identifies it, and its counters at the last pass."""

    __slots__ = ("cpu_pct", "name", "ours", "read", "resident_mib", "started", "ticks", "wrote")

    def __init__(self, started: str, ours: bool) -> None:
        self.started = started
        self.ours = ours
        self.name = ""
        self.ticks = 0
        self.cpu_pct = 0.0
        self.resident_mib = 0.0
        self.read = 0
        self.wrote = 0


class Table:
    """All processes. `pass_` reads them anew; rates are over the time since the pass before."""

    def __init__(self, lab_machine: str = "") -> None:
        self._lab = lab_machine
        self._at = 0.0
        self.seen: dict[int, Seen] = {}
        self.cpu_s_per_s: float | None = None
        self.read_bps: float | None = None
        self.write_bps: float | None = None

    def pass_(self) -> None:
        now = time.monotonic()
        elapsed_s = now - self._at if self._at else 0.0
        self._at = now
        fresh: dict[int, Seen] = {}
        ticks = read = wrote = 0
        readable = False
        for pid in _pids():
            fields = _stat(pid)
            if fields is None:
                continue
            old = self.seen.get(pid)
            known = old is not None and old.started == fields[19]
            one = old if known and old is not None else Seen(fields[19], self._is_ours(pid))
            fresh[pid] = one
            if not one.ours:
                continue
            spent = int(fields[11]) + int(fields[12])
            step = spent - one.ticks if known else 0
            one.ticks = spent
            one.cpu_pct = step / TICKS / elapsed_s * 100.0 if elapsed_s else 0.0
            one.resident_mib = int(fields[21]) * PAGE_MIB
            ticks += max(0, step)
            moved = _io(pid) if step or not known else (one.read, one.wrote)
            if moved is not None:
                readable = True
                read += max(0, moved[0] - one.read) if known else 0
                wrote += max(0, moved[1] - one.wrote) if known else 0
                one.read, one.wrote = moved
        self.seen = fresh
        if elapsed_s:
            self.cpu_s_per_s = ticks / TICKS / elapsed_s
            self.read_bps = read / elapsed_s if readable else None
            self.write_bps = wrote / elapsed_s if readable else None

    def top(self, count: int, without: set[int]) -> list[int]:
        """Pids by CPU, then memory; idle ones only while they hold much memory."""
        rows = [
            (one.cpu_pct, one.resident_mib, pid)
            for pid, one in self.seen.items()
            if one.ours and pid not in without and (one.cpu_pct >= 0.5 or one.resident_mib >= 64.0)
        ]
        return [pid for _, _, pid in sorted(rows, reverse=True)[:count]]

    def name(self, pid: int) -> str:
        """What runs there: the program and, for an interpreter, the script; never all arguments, they may be secret."""
        one = self.seen.get(pid)
        if one is None:
            return ""
        if not one.name:
            one.name = _name(pid)
        return one.name

    def _is_ours(self, pid: int) -> bool:
        """In the lab without namespaces every machine sees the host's processes: only its own are counted."""
        if not self._lab:
            return True
        mark = "LAB_MACHINE=" + self._lab
        return mark in place.read_text(f"/proc/{pid}/environ").split("\0")


def holds_gpu(pid: int) -> bool:
    """Whether a process has an NVIDIA device open: the driver's pid may be the host's, another one here."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(os.readlink(entry.path).startswith("/dev/nvidia") for entry in entries)
    except OSError:
        return False


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()][:MAX_PROCESSES]
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field on; the name before may hold anything, even brackets."""
    text = place.read_text(f"/proc/{pid}/stat", 4096)
    end = text.rfind(")")
    fields = text[end + 2 :].split() if end > 0 else []
    return fields if len(fields) > 21 else None


def _io(pid: int) -> tuple[int, int] | None:
    text = place.read_text(f"/proc/{pid}/io", 4096)
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    try:
        return int(values["read_bytes"]), int(values["write_bytes"])
    except (KeyError, ValueError):
        return None


def _name(pid: int) -> str:
    words = place.read_text(f"/proc/{pid}/cmdline", 4096).split("\0")
    program = os.path.basename(words[0].split(" ")[0]) if words and words[0] else ""
    if not program:
        return place.read_text(f"/proc/{pid}/comm", 64).strip()[:MAX_NAME]
    if program.startswith(("python", "bash", "sh", "perl", "node", "ruby")) and len(words) > 1:
        script = _script(words[1:8])
        if script:
            program = program + " " + os.path.basename(script)
    return program[:MAX_NAME]


def _script(words: list[str]) -> str:
    """The script or module that an interpreter was given; empty for code given by -c: it may hold anything."""
    for at, word in enumerate(words):
        if word == "-c":
            return ""
        if word == "-m":
            return words[at + 1] if at + 1 < len(words) else ""
        if not word.startswith("-"):
            return word
    return ""
