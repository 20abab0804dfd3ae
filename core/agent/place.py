"""Where things are on this machine. One rule: everything of ours is in one private directory under the home."""

from __future__ import annotations

import os

FOLDER = ".understudy"
SOCKET = "agent.sock"  # bound relative to the folder: an absolute path may be too long for a socket
LOCK = "agent.lock"
LOG = "agent.log"
DEADLINE = "deadline.json"


def home() -> str:
    """The login's home directory."""
    return os.environ.get("HOME") or os.path.expanduser("~")


def folder() -> str:
    """The agent's own directory, made 0700."""
    path = os.path.join(home(), FOLDER)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def workspace() -> str:
    """The workspace's directory: $WORKSPACE, then /workspace, then the home."""
    named = os.environ.get("WORKSPACE", "")
    for path in (named, "/workspace"):
        if path and os.path.isdir(path):
            return path
    return home()


def boot_id() -> str:
    """Tells one start of the kernel from the next; empty where there is no /proc."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def read_text(path: str, limit: int = 1 << 20) -> str:
    """A small file's text; empty when it cannot be read: a missing figure is no error here."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def read_regular(path: str, last_bytes: int) -> bytes:
    """The last bytes of a regular file; empty for anything else, so that a pipe or device never blocks us."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(handle)
        if status.st_mode & 0o170000 != 0o100000:
            return b""
        return os.pread(handle, last_bytes, max(0, status.st_size - last_bytes))
    except OSError:
        return b""
    finally:
        os.close(handle)
