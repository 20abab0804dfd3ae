"""The gate as a client sees it: bytes pass, and each fault of the network has the face that the real one has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.lab.links import GateLink, end_process, open_or_spawn
from tests.lab.machine_rig import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Echo:
    """A server behind the gate that gives back what it gets, and remembers how its connections ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.server: asyncio.Server | None = None
        self.serving: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        """Returns when no connection is left."""
        assert self.server is not None
        self.server.close()
        while self.serving:
            await asyncio.wait(self.serving)

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            self.ends.append("eof")
            writer.write(b"bye")
        except ConnectionResetError:
            self.ends.append("reset")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class Bench:
    """A gate with one open port."""

    def __init__(self, link: GateLink, echo: Echo, port: int) -> None:
        self.link, self.echo, self.port = link, echo, port

    async def fault(self, name: str | None) -> dict[str, Any]:
        return await self.link.request("fault", key="m/direct", fault=name)

    async def shape(self, latency_s: float = 0.0, bytes_per_s: int = 0) -> None:
        await self.link.request("shape", key="m/direct", latency_s=latency_s, bytes_per_s=bytes_per_s)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def trip(self, data: bytes = b"ping") -> bytes:
        reader, writer = await self.connect()
        writer.write(data)
        back = await asyncio.wait_for(reader.readexactly(len(data)), 20)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return back


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="understudy-gate-") as name:
        # deeper than the 108 bytes of a Unix socket's address
        home = Path(name, "d" * 100)
        home.mkdir()
        link, echo = GateLink(home), Echo()
        await open_or_spawn(link, "core.lab.gate", home, "gate.sock", with_parent=True)
        target = ["127.0.0.1", await echo.start()]
        opened = await link.request("open", key="m/direct", host="127.0.0.1", port=0, target=target)
        yield Bench(link, echo, int(opened["address"][1]))
        pid = int((await link.request("hello"))["pid"])
        await link.close()
        await end_process(pid)
        assert not (home / "gate.sock").exists()
        await echo.stop()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def healed(bench: Bench) -> AsyncIterator[None]:
    yield
    await bench.fault(None)
    await bench.shape()


async def test_bytes_pass_whole_and_ends_are_half_closed(bench: Bench) -> None:
    data = os.urandom(3_000_000)
    reader, writer = await bench.connect()

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    task = asyncio.create_task(send())
    assert await reader.read(-1) == data + b"bye"
    await task
    writer.close()


async def test_reset_is_a_reset_for_old_connections_and_a_refusal_for_new_ones(bench: Bench) -> None:
    reader, writer = await bench.connect()
    writer.write(b"x")
    await reader.readexactly(1)
    await bench.fault("reset")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    with pytest.raises(ConnectionRefusedError):
        await bench.connect()
    writer.close()
    with pytest.raises(OSError, match="Address already in use"), socket.socket() as other:
        other.bind(("127.0.0.1", bench.port))  # the port stays the machine's
    await bench.fault(None)
    assert await bench.trip() == b"ping"


async def test_drop_is_silence_and_heals_with_nothing_lost(bench: Bench) -> None:
    reader, writer = await bench.connect()
    writer.write(b"before")
    await reader.readexactly(6)
    await bench.fault("drop")
    writer.write(b"during")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.connect(), 0.7)  # neither accepted nor refused
    await bench.fault(None)
    assert await asyncio.wait_for(reader.readexactly(6), 20) == b"during"
    assert await bench.trip() == b"ping"
    writer.close()


async def test_an_end_in_silence_is_told_after_it(bench: Bench) -> None:
    reader, writer = await bench.connect()
    writer.write(b"x")
    await reader.readexactly(1)
    ends = len(bench.echo.ends)
    await bench.fault("drop")
    writer.close()
    await asyncio.sleep(0.3)
    assert len(bench.echo.ends) == ends
    await bench.fault(None)
    await eventually(lambda: len(bench.echo.ends) > ends)
    assert bench.echo.ends[ends:] == ["eof"]


async def test_faults_follow_one_another(bench: Bench) -> None:
    for first, second in (("drop", "reset"), ("reset", "drop"), ("drop", "drop")):
        await bench.fault(first)
        await bench.fault(second)
        await bench.fault(None)
        assert await bench.trip() == b"ping"


async def test_latency_is_added_each_way_and_order_is_kept(bench: Bench) -> None:
    await bench.shape(latency_s=0.2)
    reader, writer = await bench.connect()
    began = time.monotonic()
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    assert time.monotonic() - began >= 0.4
    writer.write(b"two")
    await asyncio.sleep(0.05)
    await bench.shape()  # what is on its way must not be overtaken by what comes after
    writer.write(b"three")
    assert await asyncio.wait_for(reader.readexactly(8), 20) == b"twothree"
    writer.close()


async def test_the_rate_is_held(bench: Bench) -> None:
    await bench.shape(bytes_per_s=1_000_000)
    began = time.monotonic()
    data = os.urandom(500_000)
    reader, writer = await bench.connect()
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(len(data)), 60) == data
    assert time.monotonic() - began >= 0.4
    writer.close()


async def test_a_new_target_resets_and_leads_elsewhere(bench: Bench) -> None:
    other = Echo()
    port = await other.start()
    reader, writer = await bench.connect()
    writer.write(b"x")
    await reader.readexactly(1)
    home = int((await _address_of(bench))[1])
    await bench.link.request("target", key="m/direct", target=["127.0.0.1", port])
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert await bench.trip() == b"ping"
    await eventually(lambda: other.ends)
    await other.stop()
    assert bench.echo.server is not None
    await bench.link.request(
        "target", key="m/direct", target=["127.0.0.1", bench.echo.server.sockets[0].getsockname()[1]]
    )
    assert home == bench.port


async def _address_of(bench: Bench) -> list[Any]:
    ports = (await bench.link.request("hello"))["ports"]
    address: list[Any] = ports["m/direct"]
    return address


async def test_nobody_behind_the_gate_is_a_reset(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = ["127.0.0.1", free.getsockname()[1]]
    opened = await bench.link.request("open", key="void", host="127.0.0.1", port=0, target=target)
    with pytest.raises(ConnectionResetError):
        await _first_byte(*opened["address"])
    await bench.link.request("close", key="void")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*opened["address"])


async def _first_byte(host: str, port: int) -> bytes:
    """A reset may come at the connect already."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.read(1)
    finally:
        writer.close()


async def test_opening_again_keeps_the_port_and_a_taken_one_is_refused(bench: Bench) -> None:
    assert bench.echo.server is not None
    target = ["127.0.0.1", bench.echo.server.sockets[0].getsockname()[1]]
    again = await bench.link.request("open", key="m/direct", host="127.0.0.1", port=0, target=target)
    assert again["address"][1] == bench.port
    with pytest.raises(OSError, match="in use"):
        await bench.link.request("open", key="second", host="127.0.0.1", port=bench.port, target=target)
    for op, key in (("fault", "nobody"), ("nonsense", "m/direct")):
        with pytest.raises(OSError, match=r"knows no|has no port"):
            await bench.link.request(op, key=key, fault=None)
    with pytest.raises(OSError, match="knows no fault"):
        await bench.fault("earthquake")


async def test_it_ends_with_its_parent() -> None:
    with tempfile.TemporaryDirectory() as home:
        script = (
            "import asyncio, sys, json\nfrom pathlib import Path\nfrom core.lab.links import GateLink, open_or_spawn\n"
            "async def main():\n"
            "    link = GateLink(Path(sys.argv[1]))\n"
            "    await open_or_spawn(link, 'core.lab.gate', Path(sys.argv[1]), 'gate.sock', with_parent=True)\n"
            "    print(json.dumps(await link.request('hello')), flush=True)\n"
            "    await asyncio.sleep(1000)\n"
            "asyncio.run(main())\n"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, home, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert parent.stdout is not None
        pid = int(json.loads(await parent.stdout.readline())["pid"])
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        for _ in range(200):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.05)
        pytest.fail("the gate outlived its parent")
