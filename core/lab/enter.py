"""Runs one command inside a machine's namespaces: `python -m core.lab.enter INIT_PID USERNS(0|1) -- ARGV...`.
One rule: the environment it is given is the command's; nothing of the machine reaches an argument list."""

from __future__ import annotations

import os
import signal
import sys

from core.lab import linuxns as ns

KINDS = (("mnt", ns.NEWNS), ("pid", ns.NEWPID), ("uts", ns.NEWUTS), ("ipc", ns.NEWIPC))
NOT_RUN = 127  # as a shell says it


def main(arguments: list[str]) -> int:
    """The command's exit status, 128+n for a signal, 127 when it could not be run."""
    init, user_namespace, argv = int(arguments[0]), arguments[1] == "1", arguments[3:]
    kinds = ((("user", ns.NEWUSER),) if user_namespace else ()) + KINDS
    doors = [(os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in kinds]
    for fd, kind in doors:
        ns.setns(fd, kind)
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if status >= 0 else 128 - status
    ns.die_with_parent(signal.SIGKILL)
    os.chdir(os.environ.get("HOME", "/"))
    os.environ.pop("PYTHONPATH", None)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell unless the caller names one
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        os._exit(NOT_RUN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
