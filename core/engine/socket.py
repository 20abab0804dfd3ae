"""The engine's door: one engine per home (flock), a socket that only its user can open, the peer's uid checked.

One rule: nothing of a request is read before the kernel said who sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.domain.errors import EngineError
from core.home import Home

SEND_BUFFER_BYTES = 32 * 1024  # small: a slow reader's backlog must stay where newer readings replace older ones
WRITE_HIGH_BYTES = 16 * 1024
STREAM_GRACE_S = 0.2


def hold_lock(home: Home) -> int:
    """Takes the home for this process; the descriptor holds it. Raises EngineError when another engine has it."""
    fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise EngineError(
            f"An engine already runs for this home (pid {pid or 'unknown'}).", hint="One engine per home is enough."
        ) from e
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def listen(path: Path) -> socket.socket:
    """Binds the socket 0600, without a moment in which it is not: the mode comes with the descriptor."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    os.fchmod(made.fileno(), 0o600)
    made.bind(str(path))
    path.chmod(0o600)
    made.listen(128)
    made.setblocking(False)
    return made


def peer_uid(connection: socket.socket) -> int:
    """The uid at the other end of a Unix socket, from the kernel."""
    if sys.platform == "darwin":
        raw = connection.getsockopt(0, 0x001, 76)  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
        return int(struct.unpack_from("=II", raw)[1])
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


class SameUserProtocol(H11Protocol):
    """Hangs up on another user before a byte is parsed; `scope["client"]` carries the actor's name."""

    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid != os.getuid():
            self._refused = True
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        super().connection_made(transport)
        self.client = (user_name(uid), 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            super().connection_lost(exc)


class Server(uvicorn.Server):
    """uvicorn without its signals, and with streams that do not hold up the stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(STREAM_GRACE_S, self._hang_up)
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


def notify_service_manager(state: str) -> None:
    """Tells systemd (when it asked for it) that we are ready or stopping."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made, contextlib.suppress(OSError):
        made.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
