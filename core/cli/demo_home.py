"""What a demo has started, and how it ends. One rule: a janitor of its own knows all of it, so that even kill -9 of the
demo leaves no process, no port and no file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from core.cli import janitor
from core.home import Home
from core.launch import Started, environment

LEAVE_S = 30.0  # the janitor's own patience with each process is shorter
CONSOLE_LEAVE_S = 3.0
_REAP_S = 0.02


class DemoHome:
    """While it is entered, everything added to it is ended at the end; what was added with `last` goes last."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        self._janitor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DemoHome:
        code = Path(janitor.__file__).read_text("utf-8")
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._tell(str(self.home.state))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Returns when nothing is left. A second signal does not hurry it: the janitor would go on by itself."""
        waiting = self._janitor
        if waiting is None or waiting.stdin is None:
            return
        before = [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            waiting.stdin.close()
            self._wait(waiting)
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
                signal.signal(number, handler)

    def add(self, started: Started, *, last: bool = False) -> Started:
        """From now on it ends with the demo."""
        self._processes.append(started.process)
        self._tell(f"{started.process.pid}{' last' if last else ''}")
        return started

    @contextmanager
    def console(self, home: Home) -> Iterator[subprocess.Popen[bytes]]:
        """The console on this terminal, in a process of its own; it is ended when the block is left."""
        words = [sys.executable, "-P", "-m", "core.cli", "--home", str(home.state)]
        # a handler, not SIG_IGN: that would be inherited
        before = signal.signal(signal.SIGINT, lambda *_: None)
        process = subprocess.Popen(words, env=environment())
        self._processes.append(process)
        self._tell(str(process.pid))
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(CONSOLE_LEAVE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            signal.signal(signal.SIGINT, before)

    def _tell(self, line: str) -> None:
        if self._janitor is not None and self._janitor.stdin is not None:
            self._janitor.stdin.write(line.encode() + b"\n")
            self._janitor.stdin.flush()

    def _wait(self, janitor_: subprocess.Popen[bytes]) -> None:
        """Our own children are reaped meanwhile; an unreaped one would look alive."""
        waited = 0.0
        while waited < LEAVE_S:
            for process in self._processes:
                process.poll()
            try:
                janitor_.wait(_REAP_S)
            except subprocess.TimeoutExpired:
                waited += _REAP_S
            else:
                return
