"""One attached reader of the daemon. One rule: a slow reader loses reports, never answers, and slows nobody."""

from __future__ import annotations

import socket

from core.agent import wire

MAX_QUEUED = 4 * wire.MAX_FRAME


class Client:
    """A non-blocking socket with its queue. `gone` says that it is to be closed."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.gone = False
        self.greeted = False
        self._frames = wire.Frames(wire.MAX_ORDER)
        self._queue = bytearray()
        self._unacked = 0

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)

    def send(self, value: object) -> None:
        """Queues an answer; a reader that leaves too much unread is gone."""
        self._queue += wire.encode_json(value)
        if len(self._queue) > MAX_QUEUED:
            self.gone = True
        self.flush()

    def report(self, frame: bytes) -> None:
        """Queues a report unless this reader is behind: the next one replaces it."""
        if not self.greeted or self._queue or self._unacked >= wire.MAX_UNACKED:
            return
        self._unacked += 1
        self._queue += frame
        self.flush()

    def lease(self, received: int) -> None:
        """The reader has had so many reports more."""
        self._unacked = max(0, self._unacked - max(0, received))

    def flush(self) -> None:
        try:
            while self._queue:
                sent = self.socket.send(self._queue)
                del self._queue[:sent]
        except BlockingIOError:
            return
        except OSError:
            self.gone = True

    def receive(self) -> list[bytes]:
        """Whole orders that have come; `gone` at the end of the stream or when it breaks the format."""
        try:
            data = self.socket.recv(1 << 16)
            if not data:
                self.gone = True
            return self._frames.feed(data) if data else []
        except BlockingIOError:
            return []
        except (OSError, wire.WireError):
            self.gone = True
            return []
