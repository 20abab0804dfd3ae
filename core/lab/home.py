"""The lab's folder under an Understudy home.

Its one rule: everything in it is the operator's alone, and is replaced whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from pathlib import Path

import msgspec

from core.lab.state import WorldState


class LabRunning(Exception):
    """Another lab holds this home."""


class Identity(msgspec.Struct, kw_only=True):
    """What stays the same over restarts: the token and the ports."""

    token: str
    ports: dict[str, int] = {}


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by its owner only."""
    new = path.with_name(path.name + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    new.replace(path)


class LabHome:
    """`<home>/lab` and its files. Raises LabRunning when another process holds it."""

    def __init__(self, home: Path) -> None:
        self.path = home / "lab"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise LabRunning(f"A lab runs in {home} already.") from error

    @property
    def announcement(self) -> Path:
        """lab.json: there while the lab answers."""
        return self.path / "lab.json"

    def identity(self) -> Identity:
        """The lasting token and ports, made at the first call."""
        path = self.path / "identity.json"
        if path.is_file():
            return msgspec.json.decode(path.read_bytes(), type=Identity)
        made = Identity(token=secrets.token_urlsafe(32))
        self.keep(made)
        return made

    def keep(self, identity: Identity) -> None:
        """Write token and ports down."""
        write_private(self.path / "identity.json", msgspec.json.encode(identity))

    def load(self) -> WorldState | None:
        """The world as it was left; None on the first day."""
        path = self.path / "world.json"
        return msgspec.json.decode(path.read_bytes(), type=WorldState) if path.is_file() else None

    def save(self, state: WorldState) -> None:
        """The world as it is now."""
        state.saved_at = time.time()
        write_private(self.path / "world.json", msgspec.json.encode(state))

    def close(self) -> None:
        """Let the home go."""
        os.close(self._lock)


def listen(port: int) -> socket.socket:
    """A listening loopback socket on the wished port; on another one if somebody took it meanwhile."""
    for wanted in (port, 0):
        # with its protocol named, or asyncio does not switch Nagle off on what it accepts: 40 ms a request
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", wanted))
        except OSError:
            sock.close()
            if wanted == 0:
                raise
            continue
        # connections queue from now on, so the ports may be announced before the server takes them
        sock.listen(128)
        sock.setblocking(False)
        return sock
    raise OSError("no loopback port is free")
