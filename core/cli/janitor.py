"""Cleans up after a demo, however that ended: a process of its own that waits for its parent's end of a pipe to close.

One rule: it depends on nobody (standard library only), so that even kill -9 of the demo leaves no process and no file.

Its first line on stdin names the directory to remove, each following one a process to end; one marked `last` ends after
all others. At end of file it ends them, waits until they are gone, and removes the directory.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE_S = 8.0  # an engine ends in less than one second, a lab with its machines in a few
POLL_S = 0.02


def started(pid: int) -> str:
    """When the process began, in the kernel's ticks: a pid that was given to another one has another. Empty: gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if sys.platform == "linux" or not exists(pid) else "unknown"
    return "" if words[0] == "Z" else words[19]  # proc(5): field 22, counted from the one after the name


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(pid: int, began: str) -> None:
    """Returns when the process is gone: asked first, killed when it does not listen."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        if not began or started(pid) != began:
            return
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        while started(pid) == began and time.monotonic() < deadline:
            time.sleep(POLL_S)


def engine_of(directory: Path) -> int:
    """The engine that now runs in this home: the one that was started may have died and another come. 0: none."""
    try:
        pid = int((directory / "engine.lock").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if os.fsencode(directory) in words else 0


def main() -> None:
    for sig in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(sig, signal.SIG_IGN)
    directory = Path(sys.stdin.readline().rstrip("\n"))
    processes = []
    for line in sys.stdin:
        pid, *marks = line.split()
        processes.append(("last" in marks, int(pid), started(int(pid))))
    later = engine_of(directory)
    if later and later not in [pid for _, pid, _ in processes]:
        processes.append((False, later, started(later)))
    for _, pid, began in sorted(processes, key=lambda p: p[0]):
        end(pid, began)
    deadline = time.monotonic() + GRACE_S
    while directory.exists() and time.monotonic() < deadline:
        # the last of the lab's machines may still be writing while it goes
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            time.sleep(POLL_S)


if __name__ == "__main__":
    main()
