"""The front's lines to the keeper and the gate.

One rule: an answer with an error becomes an `OSError` with that sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

START_LIMIT_S = 30.0  # importing asyncssh takes 0.2 s alone and many times that on a busy machine
START_POLL_S = 0.02
END_LIMIT_S = 10.0
DATAGRAM_BYTES = 1 << 17  # below net.core.wmem_default (212,992), the limit of one Unix datagram
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "LAB_ISOLATION", "SUDO_UID", "SUDO_GID")

Answer = dict[str, Any]


class NoAnswer(ConnectionError):
    """The process at the other end is not there, or went away in the middle."""


def scrubbed_environment() -> dict[str, str]:
    """For processes whose environment a lab machine could read: no key or token of the operator is in it."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    places = [str(Path(__file__).resolve().parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    path = os.pathsep.join(dict.fromkeys(place for place in places if place))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def spawn(module: str, directory: Path, socket_name: str, *, with_parent: bool) -> int:
    """Start `python -m module SOCKET` in a session of its own, its words in a log file beside the socket; its pid.
    From the calling thread: with_parent ties it to that thread (PDEATHSIG)."""
    # -P: the directory that the operator happens to stand in is neither searched for code nor shown to machines
    argv = [sys.executable, "-P", "-m", module, str(directory / socket_name)]
    if with_parent:
        argv += ["--with-parent", str(os.getpid())]
    log = str(directory / f"{socket_name.removesuffix('.sock')}.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(sys.executable, argv, scrubbed_environment(), file_actions=actions, setsid=True)


def reap(pid: int) -> bool:
    """Collect a child that has ended; True when it is not running any more as a child of ours."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


@contextlib.contextmanager
def short_path(directory: Path, name: str) -> Iterator[str]:
    """A path to the socket that fits the 108 bytes of sockaddr_un however deep the home lies (Linux)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{name}" if sys.platform == "linux" else str(directory / name)
    finally:
        os.close(fd)


class KeeperLink:
    """Requests to the keeper, one at a time, and its news on a second connection."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    async def _connected(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        try:
            with short_path(self._directory, "keeper.sock") as path:
                await asyncio.get_running_loop().sock_connect(line, path)
        except OSError as error:
            line.close()
            raise NoAnswer("the lab's keeper is not running") from error
        return line

    async def open(self) -> None:
        """Raises NoAnswer when no keeper listens."""
        self._socket = await self._connected()

    async def request(self, op: str, **fields: Any) -> Answer:
        """Raises OSError with the keeper's sentence, NoAnswer when it is gone."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._socket is None:
                raise NoAnswer("the lab's keeper is not running")
            answer = asyncio.ensure_future(self._exchange(loop, self._socket, op, fields))
            # a cancelled caller must not leave an unread answer to the next one
            try:
                data = await asyncio.shield(answer)
            except asyncio.CancelledError:
                await asyncio.wait([answer])
                raise
        if "error" in data:
            raise OSError(data["error"])
        return data

    async def _exchange(self, loop: asyncio.AbstractEventLoop, line: socket.socket, op: str, fields: Answer) -> Answer:
        message = json.dumps({"op": op, **fields}).encode()
        if len(message) > DATAGRAM_BYTES:
            raise OSError(f"{len(message)} bytes of environment and start command are more than a machine takes")
        try:
            await loop.sock_sendall(line, message)
            data = await loop.sock_recv(line, 1 << 18)
        except OSError as error:
            raise NoAnswer("the lab's keeper is gone") from error
        if not data:
            raise NoAnswer("the lab's keeper is gone")
        answer: Answer = json.loads(data)
        return answer

    async def watch(self, on_end: Callable[[str], Awaitable[None]]) -> None:
        """Tell every machine's unasked end. Returns when the keeper is gone."""
        loop = asyncio.get_running_loop()
        line = await self._connected()
        try:
            await loop.sock_sendall(line, b'{"op": "watch"}')
            while data := await loop.sock_recv(line, 1 << 16):
                news = json.loads(data)
                if "ended" in news:
                    await on_end(str(news["ended"]))
        except ConnectionError:
            return
        finally:
            line.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class GateLink:
    """Requests to the gate, one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Raises NoAnswer when no gate listens."""
        try:
            with short_path(self._directory, "gate.sock") as path:
                self._streams = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise NoAnswer("the lab's gate is not running") from error

    async def request(self, op: str, **fields: Any) -> Answer:
        """Raises OSError with the gate's sentence, NoAnswer when it is gone."""
        async with self._lock:
            task = asyncio.ensure_future(self._exchange({"op": op, **fields}))
            try:
                answer = await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    async def _exchange(self, message: Answer) -> Answer:
        if self._streams is None:
            raise NoAnswer("the lab's gate is not running")
        reader, writer = self._streams
        try:
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        except OSError as error:
            raise NoAnswer("the lab's gate is gone") from error
        if not line:
            raise NoAnswer("the lab's gate is gone")
        answer: Answer = json.loads(line)
        return answer

    async def wait_closed(self) -> None:
        """Returns when the gate is gone; a line of its own, on which nothing is asked."""
        try:
            with short_path(self._directory, "gate.sock") as path:
                reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise NoAnswer("the lab's gate is not running") from error
        try:
            with contextlib.suppress(ConnectionError):
                await reader.read()
        finally:
            writer.close()

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):  # the gate closed first
                await writer.wait_closed()


async def open_or_spawn(
    link: KeeperLink | GateLink, module: str, directory: Path, socket_name: str, *, with_parent: bool
) -> bool:
    """Connect to the process of this home, or start it; True when it was started now. Raises OSError when it does not
    come up."""
    with contextlib.suppress(NoAnswer):
        await link.open()
        return False
    (directory / socket_name).unlink(missing_ok=True)
    pid = spawn(module, directory, socket_name, with_parent=with_parent)
    deadline = asyncio.get_running_loop().time() + START_LIMIT_S
    while True:
        with contextlib.suppress(NoAnswer):
            await link.open()
            return True
        if reap(pid) or asyncio.get_running_loop().time() > deadline:
            await end_process(pid)
            log = directory / f"{socket_name.removesuffix('.sock')}.log"
            raise OSError(f"{module} did not start; its last words are in {log}")
        await asyncio.sleep(START_POLL_S)


async def end_process(pid: int, limit_s: float = END_LIMIT_S) -> None:
    """SIGTERM and wait for its end; SIGKILL after `limit_s`. Silent when it is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, gone.set)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), limit_s)
                return
    finally:
        loop.remove_reader(fd)
        os.close(fd)
        reap(pid)
