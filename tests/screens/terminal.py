"""A program in a real pseudo-terminal: what it sends, byte by byte, and what it costs.

One rule: it waits for a marker or for the end, never for a guessed time; what it started is ended by its own pid.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence

import psutil

SYNC_QUERY, SYNC_ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
PATIENCE_S = 60.0


class Terminal:
    """Runs ``argv`` in a terminal of the given size, answering as one that knows synchronized output."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TEXTUAL", "LC_ALL")}
        wanted = {**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **(environment or {})}
        self.began_s = time.monotonic()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], list(argv), wanted)  # noqa: S606
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._fd, False)
        self.sent = b""
        self.exit_code: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pump(self, timeout_s: float) -> bytes:
        """What came within the time; empty when nothing did."""
        readable, _, _ = select.select([self._fd], [], [], timeout_s)
        if not readable:
            return b""
        got = b""
        try:
            while chunk := os.read(self._fd, 65536):
                got += chunk
        except BlockingIOError:
            pass  # all that was there has been read
        except OSError:
            self._reap()  # the other side is closed
        if SYNC_QUERY in got:
            os.write(self._fd, SYNC_ANSWER)
        self.sent += got
        return got

    def until(self, marker: bytes, patience_s: float = PATIENCE_S) -> float:
        """Read until the marker came; returns the seconds since the start."""
        end = time.monotonic() + patience_s
        while marker not in self.sent:
            assert time.monotonic() < end, f"no {marker!r}; the last of it: {self.sent[-400:]!r}"
            assert self.exit_code is None, f"it ended with {self.exit_code}: {self.sent[-2000:]!r}"
            self.pump(0.05)
        return time.monotonic() - self.began_s

    def quiet(self, for_s: float = 0.3) -> None:
        """Read until nothing came for so long."""
        while self.pump(for_s):
            continue

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._fd, keys)

    def answer(self, keys: bytes) -> bytes:
        """Type, and return what was sent for it until it is quiet."""
        before = len(self.sent)
        self.press(keys)
        self.pump(2.0)
        self.quiet(0.1)
        return self.sent[before:]

    def cpu_s(self) -> float:
        """CPU seconds that the program has used."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Read until the program ended; returns its exit code."""
        end = time.monotonic() + patience_s
        while self.exit_code is None:
            assert time.monotonic() < end, f"it did not end; the last of it: {self.sent[-400:]!r}"
            self.pump(0.05)
            self._reap()
        return self.exit_code

    def _reap(self) -> None:
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End it if it still runs."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)
            end = time.monotonic() + 5
            while self.exit_code is None and time.monotonic() < end:
                self.pump(0.05)
                self._reap()
            if self.exit_code is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        os.close(self._fd)
