"""The Linux system calls the lab's machines need, by ctypes.

One rule: every failure is an `OSError` that names the call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # arch/*/entry/syscalls; glibc has no wrapper

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    result = _libc.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(data))
    _check(result, f"mount {source or kind or ''} on {target}")


def unmount(target: str) -> None:
    """Detach at once; what is still open there lives on until it is closed."""
    _check(_libc.umount2(_text(target), MNT_DETACH), f"umount {target}")


def enter_root(root: str) -> None:
    """Make `root`, a mount point, this mount namespace's `/` and let go of the old one."""
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(f"pivot_root has no known number on {platform.machine()}")
    os.chdir(root)
    # pivot_root(2): with "." twice the old root is stacked on the new one; no directory for it is needed
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def set_hostname(name: str) -> None:
    _check(_libc.sethostname(os.fsencode(name), len(os.fsencode(name))), "sethostname")


def die_with_parent(sig: signal.Signals = signal.SIGKILL) -> None:
    """The kernel sends `sig` when the parent *thread* ends. Call it after the last change of parent, and only below a
    parent of one thread."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(sig), 0, 0, 0), "prctl PDEATHSIG")


def follow_parent(arguments: list[str]) -> None:
    """`--with-parent PID` among `arguments`: SIGTERM comes when that parent ends; exits when it has ended already."""
    if "--with-parent" in arguments:
        parent = int(arguments[arguments.index("--with-parent") + 1])
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(0)


def become_subreaper() -> None:
    """Orphans below this process become its children."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl SUBREAPER")


def name_process(name: str) -> None:
    """What `ps -o comm` shows; 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, os.fsencode(name)[:15], 0, 0, 0), "prctl NAME")


def retitle_process(title: str) -> None:
    """What `ps` shows as the command line: the memory of our arguments, written over (proc_pid_stat(5), 48 and 49)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if end - start > 1:
        ctypes.memmove(start, os.fsencode(title)[: end - start - 1].ljust(end - start, b"\0"), end - start)


def mapping_to_root() -> Callable[[], None]:
    """Take down who we are now; the returned call, after `unshare(NEWUSER)`, maps that one user and group to root."""
    uid, gid = os.geteuid(), os.getegid()

    def write() -> None:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")

    return write


def _unescape(field: str) -> str:
    """mountinfo writes blanks and backslashes of paths as three octal digits."""
    return field.encode("latin-1").decode("unicode_escape") if "\\" in field else field


def mounts_below(top: str) -> list[tuple[str, set[str]]]:
    """Mount points at and below `top` with their per-mount options, outermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = _unescape(fields[4])
        if point == top or point.startswith(top + "/"):
            found.append((point, set(fields[5].split(","))))
    return found


def make_read_only(top: str) -> None:
    """Every mount at and below `top`. Flags already set stay: in a user namespace they are locked."""
    for point, options in mounts_below(top):
        flags = MS_BIND | MS_REMOUNT | MS_RDONLY
        for word, flag in (("nosuid", MS_NOSUID), ("nodev", MS_NODEV), ("noexec", MS_NOEXEC)):
            flags |= flag if word in options else 0
        mount(None, point, None, flags)
