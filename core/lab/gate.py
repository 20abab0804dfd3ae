"""The gate: every TCP port of every machine, passed through, with the network's faults.

One rule: it knows nothing of SSH.

`python -m core.lab.gate SOCKET [--with-parent PID]`; newline-delimited JSON on a Unix socket, one answer per
request. A drop in user space is not a cut cable: the kernel still acknowledges what the client sends, so only
application heartbeats see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, cast

from core.lab import linuxns as ns

BACKLOG = 128
HIGH_WATER_BYTES = 1 << 18
QUEUE_AHEAD_S = 0.1  # how far a shaped direction may run ahead before its reader is paused
LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero time: close sends RST
FAULTS = (None, "drop", "reset")


class Side(asyncio.Protocol):
    """One end of a connection; `peer` is the other. The reader is paused while the writer is full."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.peer: Side | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []  # what arrived before the other end was connected
        self.sent_until_s = 0.0
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.port.live.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.port.fault == "drop":
            transport.pause_reading()

    @property
    def open_peer(self) -> asyncio.Transport | None:
        """The other end's transport while it can take bytes."""
        transport = self.peer.transport if self.peer else None
        return transport if transport and not transport.is_closing() else None

    def data_received(self, data: bytes) -> None:
        if self.peer is None or self.peer.transport is None:
            self.early.append(data)
            self.pause()
        elif self.port.latency_s or self.port.bytes_per_s or self.sent_until_s > asyncio.get_running_loop().time():
            self._send_later(data)
        elif other := self.open_peer:
            other.write(data)

    def _send_later(self, data: bytes) -> None:
        """One virtual queue per direction. It stays in use until it has drained, so that bytes never overtake."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        begin = max(self.sent_until_s - self.port.latency_s, now)
        sent = begin + (len(data) / self.port.bytes_per_s if self.port.bytes_per_s else 0.0)
        self.sent_until_s = max(sent + self.port.latency_s, self.sent_until_s)
        if sent - now > QUEUE_AHEAD_S:
            self.pause()
            loop.call_at(sent - QUEUE_AHEAD_S / 2, self.resume)
        loop.call_at(self.sent_until_s, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if other := self.open_peer:
            other.write(data)

    def pause(self) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport and not self.transport.is_closing() and self.port.fault != "drop":
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.peer:
            self.peer.pause()

    def resume_writing(self) -> None:
        if self.peer:
            self.peer.resume()

    def _after_queue(self, act: Any) -> None:
        """Ends travel behind the bytes before them."""
        loop = asyncio.get_running_loop()
        if self.sent_until_s > loop.time():
            loop.call_at(self.sent_until_s + 0.001, act)
        else:
            act()

    def eof_received(self) -> bool:
        self.ended = True
        if self.port.fault != "drop":
            self._after_queue(self._pass_end)
        return True

    def _pass_end(self) -> None:
        other = self.open_peer
        if other and other.can_write_eof() and self.port.fault != "drop":
            other.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.port.live.discard(self)
        if self.port.fault == "drop":
            self.port.lost_in_silence.append((self, exc))
        else:
            self._after_queue(lambda: self.part(exc))

    def part(self, exc: Exception | None) -> None:
        """Tell the other end that this one is gone."""
        if self.peer and self.open_peer:
            if exc:
                self.peer.reset()
            else:
                self.peer.transport.close()  # type: ignore[union-attr]

    def reset(self) -> None:
        if self.transport and not self.transport.is_closing():
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            self.transport.abort()


class Port:
    """One listening address and where it leads."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.address: tuple[str, int] = ("", 0)
        self.fault: str | None = None
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.live: set[Side] = set()
        self.lost_in_silence: list[tuple[Side, Exception | None]] = []
        self._listener: socket.socket | None = None
        self._filling: list[socket.socket] = []
        self._filler_origins: set[tuple[str, int]] = set()
        self._joins: set[asyncio.Task[None]] = set()

    def open(self, host: str, port: int) -> None:
        """Raises OSError when the address is taken."""
        self._bind((host, port))
        self._accept_from_now()

    def _bind(self, address: tuple[str, int]) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise OSError(f"{address[0]}:{address[1]}: {error.strerror}") from error
        listener.setblocking(False)
        self._listener, self.address = listener, listener.getsockname()

    def _accept_from_now(self) -> None:
        if self._listener:
            self._listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _close_listener(self) -> None:
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        while self._listener:
            try:
                client, origin = self._listener.accept()
            except OSError:  # nobody left, or the client has gone again
                return
            if origin in self._filler_origins:
                client.close()
                continue
            task = asyncio.get_running_loop().create_task(self._join(client))
            self._joins.add(task)
            task.add_done_callback(self._joins.discard)

    async def _join(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        near, far = Side(self), Side(self)
        near.peer, far.peer = far, near
        client.setblocking(False)
        try:
            await loop.create_connection(lambda: far, *self.target)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            client.close()
            return
        await loop.connect_accepted_socket(lambda: near, client)
        for data in far.early:
            near.transport.write(data)  # type: ignore[union-attr]
        far.early.clear()
        if far.ended:
            far._pass_end()
        if far.transport and far.transport.is_closing():
            near.reset()
        far.resume()

    def reset_all(self) -> None:
        for side in list(self.live):
            side.reset()

    def set_fault(self, fault: str | None) -> None:
        """None heals. Idempotent."""
        if fault not in FAULTS:
            raise OSError(f"the gate knows no fault {fault!r}")
        if fault == self.fault:
            return
        before, self.fault = self.fault, fault
        if before == "drop":
            self._end_drop()
        if fault == "drop":
            if before == "reset":
                self._rebind()
            self._begin_drop()
        elif fault == "reset":
            self.reset_all()
            self._rebind()  # bound, not listening: nobody else takes the port, and the kernel answers RST
        elif before == "reset":
            self._accept_from_now()

    def _rebind(self) -> None:
        self._close_listener()
        self._bind(self.address)

    def _begin_drop(self) -> None:
        """Established: nobody reads. New ones: with a full accept queue the kernel ignores every SYN."""
        for side in list(self.live):
            side.pause()
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.listen(0)
            for _ in range(2):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(self.address)
                self._filling.append(filler)
                self._filler_origins.add(filler.getsockname())

    def _end_drop(self) -> None:
        for filler in self._filling:
            filler.close()
        self._filling.clear()
        self._accept_from_now()
        self._accept()  # takes the fillers out: they were never the machine's connections
        self._filler_origins.clear()
        for side in list(self.live):
            side.resume()
            if side.ended:
                side._pass_end()
        for side, reason in self.lost_in_silence:
            side.part(reason)
        self.lost_in_silence.clear()

    def close(self) -> None:
        self._close_listener()
        for filler in self._filling:
            filler.close()
        for task in self._joins:
            task.cancel()
        self.reset_all()


class Gate:
    """All ports by key, and the requests on them."""

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request; an `OSError` becomes its sentence."""
        try:
            op, key = request["op"], str(request.get("key", ""))
            if op == "hello":
                return {"pid": os.getpid(), "ports": {k: list(p.address) for k, p in self.ports.items()}}
            if op == "open":
                self._open(key, request)
            elif op == "close":
                if port := self.ports.pop(key, None):
                    port.close()
                return {}
            elif key not in self.ports:
                return {"error": f"the gate has no port {key!r}"}
            else:
                self._change(self.ports[key], request)
        except OSError as error:
            return {"error": str(error)}
        except (KeyError, TypeError, ValueError) as error:  # a bad request must not cost everyone's connections
            return {"error": f"the gate does not understand this request: {error!r}"}
        port = self.ports[key]
        return {"address": list(port.address), "connections": len(port.live) // 2, "fault": port.fault}

    def _open(self, key: str, request: dict[str, Any]) -> None:
        host, number = request["host"], int(request["port"])
        old = self.ports.get(key)
        if old is not None and number in (0, old.address[1]):
            old.target = (str(request["target"][0]), int(request["target"][1]))
            return
        if old is not None:
            self.ports.pop(key).close()
        port = Port((str(request["target"][0]), int(request["target"][1])))
        port.open(host, number)
        self.ports[key] = port

    @staticmethod
    def _change(port: Port, request: dict[str, Any]) -> None:
        match request["op"]:
            case "fault":
                port.set_fault(request["fault"])
            case "shape":
                port.latency_s, port.bytes_per_s = float(request["latency_s"]), int(request["bytes_per_s"])
            case "target":
                port.target = (str(request["target"][0]), int(request["target"][1]))
                port.reset_all()
            case unknown:
                raise OSError(f"the gate knows no request {unknown!r}")


async def serve(path: Path) -> None:
    """Until SIGTERM."""
    gate = Gate()
    stop = asyncio.Event()
    lines: set[asyncio.StreamWriter] = set()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(writer)
        with contextlib.suppress(ConnectionError):  # the front was killed; the ports stay as they are
            while line := await reader.readline():
                writer.write(json.dumps(gate.handle(json.loads(line))).encode() + b"\n")
                await writer.drain()
        lines.discard(writer)
        writer.close()

    os.chdir(path.parent)
    server = await asyncio.start_unix_server(control, path.name)  # relative: a deep home would not fit into 108 bytes
    await stop.wait()
    server.close()
    for writer in lines:
        writer.close()
    await asyncio.sleep(0)  # the readers see their end before the loop goes
    for port in gate.ports.values():
        port.close()


def main(path: Path, arguments: list[str]) -> None:
    """Serve until SIGTERM (`--with-parent PID`: or that parent's end)."""
    ns.name_process("lab-gate")
    ns.follow_parent(arguments)
    os.umask(0o077)
    asyncio.run(serve(path))
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
