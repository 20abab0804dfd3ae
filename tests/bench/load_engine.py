"""The engine under load: the real one, with agents that speak over plain sockets and a market of a given size.

`python -m tests.bench.load_engine HOME [--fleet SOCKET] [--offers N] [--full-rings]`. One rule: the bytes of the agents
go through the product's own channel, decoder, watch, telemetry and feed; only SSH's encryption is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from types import SimpleNamespace
from typing import Any

from core.domain.market import Offer
from core.engine import main as engine_main
from core.engine.compose import Engine, build
from core.home import find
from core.operations.reach import Reach
from core.providers.base import OfferPage
from core.remote.agent_client import AgentChannel
from core.remote.agent_frames import decode_report
from core.services.market import MarketWatch
from core.services.telemetry import RING
from tests.bench.fleet import VARIANTS, report

GPUS = (("RTX 4090", 24_564, 0.4), ("RTX 3090", 24_576, 0.2), ("H100 SXM", 81_559, 2.2), ("A100 SXM4", 81_920, 1.1))
COUNTRIES = ("US", "SE", "DE", "NO", "JP", "FR", "CA", "PL")


class SocketReach(Reach):
    """An agent is one connection to the fleet's socket."""

    def __init__(self, real: Reach, socket: str) -> None:
        super().__init__(identity=real.identity, known_hosts=real.known_hosts, clock=time.time)
        self._socket = socket

    async def agent(self, machine_id: str, addresses: Any, **_: Any) -> AgentChannel:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        silent = asyncio.StreamReader()
        silent.feed_eof()
        process: Any = SimpleNamespace(stdout=reader, stdin=writer, stderr=silent, close=writer.close)
        connection: Any = SimpleNamespace(machine_id=machine_id)
        channel = AgentChannel(connection, process, self._clock)
        channel._reader = asyncio.create_task(channel._read())
        await asyncio.shield(channel._greeting)
        self._channels[machine_id] = channel
        return channel


class FixedMarket:
    """So many offers, the same at every poll."""

    name = "vast"

    def __init__(self, count: int) -> None:
        rng = random.Random(2)  # noqa: S311 - the same market every time
        self._offers = [self._offer(rng, n) for n in range(count)]

    def _offer(self, rng: random.Random, number: int) -> Offer:
        gpu, vram, usd = rng.choice(GPUS)
        count = rng.choice((1, 1, 2, 4, 8))
        return Offer(
            id=str(10_000_000 + number),
            provider="vast",
            gpu=gpu,
            gpu_count=count,
            vram_mib=vram,
            kind=rng.choice(("on-demand", "spot")),
            usd_per_hour=round(usd * count * rng.uniform(0.7, 1.6), 4),
            storage_usd_per_gb_month=0.2,
            observed_at=time.time(),
            host_id=str(number // 3),
            machine_ref=str(number // 2),
            region=rng.choice(COUNTRIES),
            country=rng.choice(COUNTRIES),
            reliability=round(rng.uniform(0.9, 1.0), 4),
            disk_gb=500.0,
            driver_version="570.124",
            cuda_max=12.8,
            source="bench",
        )

    async def offers(self) -> OfferPage:
        return OfferPage(offers=self._offers)


def fill_rings(engine: Engine) -> None:
    """The last quarter of an hour of every machine, so that memory is judged as it is after a while."""
    rng, now = random.Random(3), time.time()  # noqa: S311 - the same past every time
    frames = [report(rng)[4:] for _ in range(VARIANTS)]
    for machine_id in engine.store.state.machines:
        for n in range(RING):
            engine.telemetry.take(machine_id, decode_report(frames[n % VARIANTS], now - RING + n))


def compose(fleet: str | None, offers: int, *, full: bool) -> Any:
    """`build` with these two parts exchanged."""

    async def built(*args: Any, **kwargs: Any) -> Engine:
        engine = await build(*args, **kwargs)
        if fleet is not None:
            engine.context.reach = SocketReach(engine.context.reach, fleet)
        if full:
            fill_rings(engine)
        for watch in (getattr(run, "__self__", None) for run in engine.watches):
            if isinstance(watch, MarketWatch) and offers:
                watch.provider = FixedMarket(offers)  # type: ignore[assignment]
                watch.period_s = 3600.0
        return engine

    return built


def main(argv: list[str]) -> int:
    """One engine in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load_engine")
    parser.add_argument("home")
    parser.add_argument("--fleet")
    parser.add_argument("--offers", type=int, default=0)
    parser.add_argument("--full-rings", action="store_true")
    given = parser.parse_args(argv)
    engine_main.build = compose(given.fleet, given.offers, full=given.full_rings)
    return engine_main.run(find(given.home), with_parent=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
