"""A thousand agents in one process: real frames over real sockets, once a second each.

`python -m tests.bench.fleet SOCKET`: whoever connects gets an agent's hello and then one report a second, with eight
GPUs and eight processes. One rule: it makes the bytes before it is asked for them, so that it costs next to nothing.
"""

from __future__ import annotations

import asyncio
import random
import sys

from core.agent import wire

GPUS = 8
PROCESSES = 8
VARIANTS = 40
PHASES = 20  # connections are spread over the second, as machines are


def report(rng: random.Random) -> bytes:
    """One report's frame, in the order of `core.agent.report.REPORT_FIELDS`."""
    gpus = [_gpu(rng, i) for i in range(GPUS)]
    processes = [[1000 + i, "python", round(rng.uniform(0, 100), 1), 2048.5, i, 9000.0] for i in range(PROCESSES)]
    rest = [55.5, 64, 12.25, 120_000.5, 515_000.0, 200_000.0, 1_000_000.0, 1e6, 2e6, 3e6, 4e6]
    progress = [0.4, rng.randrange(10_000), round(rng.uniform(0.5, 4), 4), 20_000]
    return wire.encode_json([0.0, gpus, processes, *rest, progress, "nvml", None])


def _gpu(rng: random.Random, index: int) -> list[object]:
    used, watt = round(rng.uniform(0, 24_564), 1), round(rng.uniform(20, 450), 1)
    busy, celsius = round(rng.uniform(0, 100), 1), round(rng.uniform(30, 80), 1)
    name = [index, f"GPU-{index:08d}-aaaa-bbbb-cccc-dddddddddddd", "NVIDIA GeForce RTX 4090"]
    return [*name, busy, used, 24_564.0, celsius, watt, 450.0, 2520.0, 40.0, "P2"]


def hello() -> bytes:
    gpus = [[i, f"GPU-{i:08d}", "NVIDIA GeForce RTX 4090", 24_564.0] for i in range(GPUS)]
    return wire.MAGIC + wire.encode_json(
        {"t": "hello", "protocol": wire.PROTOCOL, "version": "bench", "workspace": "/workspace", "gpus": gpus}
    )


class Fleet:
    """Everybody who is connected, by phase."""

    def __init__(self) -> None:
        rng = random.Random(1)  # noqa: S311 - the same fleet every time
        self._reports = [report(rng) for _ in range(VARIANTS)]
        self._hello = hello()
        self._phases: list[set[asyncio.StreamWriter]] = [set() for _ in range(PHASES)]
        self._next = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        phase = self._phases[self._next % PHASES]
        self._next += 1
        writer.write(self._hello)
        phase.add(writer)
        try:
            while await reader.read(4096):
                continue
        except OSError:
            return
        finally:
            phase.discard(writer)
            writer.close()

    async def beat(self) -> None:
        """For ever: each phase once a second."""
        loop = asyncio.get_running_loop()
        due, turn = loop.time(), 0
        while True:
            for n, writer in enumerate(list(self._phases[turn % PHASES])):
                writer.write(self._reports[(turn + n) % VARIANTS])
            turn += 1
            due += 1.0 / PHASES
            await asyncio.sleep(max(0.0, due - loop.time()))


async def serve(path: str) -> None:
    """Serves until it is ended."""
    fleet = Fleet()
    server = await asyncio.start_unix_server(fleet.accept, path, backlog=2048)
    async with server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await fleet.beat()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
