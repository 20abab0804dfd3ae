"""The network between an engine and its provider, in the harness's hand: requests and answers can be held on the way.

One rule: a request that was read is delivered, even when the one who sent it is dead by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from urllib.parse import urlsplit

CREATE, DESTROY, OTHER = "create", "destroy", "other"
HOLD_S = {CREATE: 0.06, DESTROY: 0.02, OTHER: 0.002}  # the longest a request, and again its answer, is under way


class Wire:
    """One loopback port in front of one provider endpoint. `calls` counts what passed, by kind."""

    def __init__(self, upstream: str, rng: random.Random) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rng = rng
        self._waiting: dict[str, list[asyncio.Future[None]]] = {CREATE: [], DESTROY: []}
        self._open: set[asyncio.StreamWriter] = set()
        self.calls: Counter[str] = Counter()
        self.slow = 1.0

    async def open(self) -> str:
        """Listens; returns the URL that stands for the provider's."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Hangs up on everybody."""
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()

    async def next(self, kind: str, timeout_s: float) -> bool:
        """Waits until a create has left for the provider, or a destroy was answered; False when none did in time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[kind].append(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return False
        return True

    def hold_s(self, kind: str) -> float:
        """How long one half of such a call may take now."""
        return HOLD_S[kind] * self.slow

    def _tell(self, kind: str) -> None:
        waiting, self._waiting[kind] = self._waiting[kind], []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            ends = {writer, up_writer}
            self._open |= ends
            try:
                while True:
                    await self._pass(reader, writer, up_reader, up_writer)
            finally:
                self._open -= ends
                for end in ends:
                    end.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        request = await _message(reader)
        kind = _kind(request)
        self.calls[kind] += 1
        if kind == CREATE:
            self._tell(CREATE)
        await asyncio.sleep(self._rng.random() * self.hold_s(kind))
        up_writer.write(request)
        answer = await _message(up_reader)
        await asyncio.sleep(self._rng.random() * self.hold_s(kind))
        writer.write(answer)
        if kind == DESTROY:
            self._tell(DESTROY)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP/1.1 message with a content-length. Raises IncompleteReadError at the end of the stream."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)


def _kind(request: bytes) -> str:
    method, path, _ = request.split(b" ", 2)
    if method == b"PUT" and b"/asks/" in path:
        return CREATE
    return DESTROY if method == b"DELETE" and b"/instances/" in path else OTHER
