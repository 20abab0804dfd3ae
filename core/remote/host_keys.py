"""Host keys pinned at first use, in a known_hosts file of our own. Blocking. One rule: a pin is never replaced.

Lines are OpenSSH's, under the alias `understudy-<machine id>` instead of an address, since addresses are reused:
`ssh -o HostKeyAlias=understudy-ID -o UserKnownHostsFile=FILE` reads the same pins.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_ALGORITHMS = {
    "ssh-ed25519": ["ssh-ed25519"],
    "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
    "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
    "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
    "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
}


def alias(machine_id: str) -> str:
    """The name under which a machine's key is kept. Raises ValueError for an id that cannot be one."""
    if not _ID.fullmatch(machine_id):
        raise ValueError(f"{machine_id!r} cannot be a host alias")
    return f"understudy-{machine_id}"


def line_of(key: asyncssh.SSHKey) -> str:
    """`<algorithm> <base64>`, without a comment."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def algorithms(pinned: str | None) -> list[str]:
    """Signature algorithms to ask for: the pinned key's first, so that a machine with several keys shows the same."""
    everything = [name for names in _ALGORITHMS.values() for name in names]
    first = _ALGORITHMS.get(pinned.split()[0], []) if pinned else []
    return first + [name for name in everything if name not in first]


def pinned(path: Path, machine_id: str) -> str | None:
    """The pinned key of a machine; None when none is."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    name = alias(machine_id)
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == name:
            return f"{words[1]} {words[2]}"
    return None


def pin(path: Path, machine_id: str, key: str) -> str:
    """Pins a key and returns the one that counts: another one when somebody was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path):
        already = pinned(path, machine_id)
        if already is None:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(f"{alias(machine_id)} {key}\n")
                file.flush()
                os.fsync(file.fileno())
        return already or key


def forget(path: Path, machine_id: str) -> None:
    """Removes a destroyed machine's line. Idempotent."""
    if pinned(path, machine_id) is None:
        return
    with _locked(path):
        name = alias(machine_id)
        kept = [line for line in path.read_text().splitlines() if line.split()[:1] != [name]]
        fresh = path.with_name(path.name + ".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write("".join(line + "\n" for line in kept))
        fresh.replace(path)


def write_once(path: Path, data: bytes) -> None:
    """Writes a 0600 file whole, or leaves the one that is there."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return
    finally:
        fresh.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
