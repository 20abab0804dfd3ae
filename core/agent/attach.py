"""The relay between an SSH channel and the daemon. One rule: it holds nothing, so that its death costs nothing.

It starts the daemon when there is none, replaces one of another version, and then only copies bytes both ways.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import time

from core.agent import place, wire
from core.agent.daemon import serve

START_S = 15.0  # a machine that is booting may need long to start an interpreter
DRAIN_S = 5.0
RESTART_S = 2.0
MAX_RESTARTS = 50
CHUNK = 1 << 16


class AttachError(OSError):
    """The daemon cannot be started or reached."""


def attach(version: str) -> int:
    """Copies between stdin/stdout and the daemon until either ends. Raises AttachError."""
    os.chdir(place.folder())
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        connection = _connect()
        if connection is None:
            _start(version)
            time.sleep(0.05)
            continue
        frames = wire.Frames()
        greeting = _first(connection, frames, deadline)
        if greeting and f'"version":"{version}"'.encode() in greeting[0]:
            _write(1, wire.MAGIC + b"".join(wire.encode(each) for each in greeting))
            return _copy(connection, frames)
        _replace(connection)
    raise AttachError("the agent's daemon does not start; its log is ~/.understudy/agent.log")


def _connect() -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(place.SOCKET)
    except OSError:
        connection.close()
        return None
    return connection


def _first(connection: socket.socket, frames: wire.Frames, deadline: float) -> list[bytes]:
    """The hello and what came with it; empty when the daemon went away or does not keep to the format."""
    connection.settimeout(max(0.1, deadline - time.monotonic()))
    try:
        while True:
            data = connection.recv(CHUNK)
            found = frames.feed(data) if data else []
            if found or not data:
                return found
    except (OSError, wire.WireError):
        return []
    finally:
        connection.settimeout(None)


def _replace(connection: socket.socket) -> None:
    """Asks a daemon of another version to drain and waits until its lock is free; kills it when it does not."""
    with contextlib.suppress(OSError):  # gone already is what was wanted
        connection.sendall(wire.encode_json({"t": "drain"}))
    connection.close()
    until = time.monotonic() + DRAIN_S
    while not _lock_is_free():
        if time.monotonic() > until:
            pid = place.read_text(place.LOCK).strip()
            if pid.isdigit() and int(pid) > 1:
                os.kill(int(pid), signal.SIGKILL)
            until += DRAIN_S
        time.sleep(0.02)


def _lock_is_free() -> bool:
    lock = os.open(place.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _start(version: str) -> None:
    """Starts the daemon unless its lock is held: a process group of its own, with none of our streams."""
    if not _lock_is_free():
        return
    if os.fork() == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.closerange(3, 256)
            if os.fork() == 0:
                _keep(version)
        finally:
            os._exit(0)
    os.wait()


def _keep(version: str) -> None:
    """The daemon's parent: starts it again unless it ended by its own will, so that a deadline outlives it."""
    for _ in range(MAX_RESTARTS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = serve(version)
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return
        time.sleep(RESTART_S)


def _copy(connection: socket.socket, frames: wire.Frames) -> int:
    """Bytes both ways until either side ends; what `frames` holds of a frame goes out first."""
    _write(1, frames.rest())
    while True:
        ready, _, _ = select.select([0, connection.fileno()], [], [])
        if connection.fileno() in ready:
            data = connection.recv(CHUNK)
            if not data:
                return 0
            _write(1, data)
        if 0 in ready:
            data = os.read(0, CHUNK)
            if not data:
                return 0
            connection.sendall(data)


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]
