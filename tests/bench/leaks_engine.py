"""The engine under the leak harness: the real one but for SSH, which answers at once.

`python -m tests.bench.leaks_engine HOME [--no-sweep]` imports everything once, then forks a whole engine for every
`start` on its stdin and says its pid: the second of imports would only make a trial longer, a kill -9 is as real.
One rule: ledger, operations, sweep, provider client, HTTP and socket are the product's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.agent import wire
from core.domain.errors import Unreachable
from core.domain.readings import MachineReading
from core.engine import main as engine_main
from core.engine import once
from core.engine.compose import Engine, build
from core.home import Home, find
from core.operations import rent, retire
from core.operations.reach import Reach
from core.remote.agent_frames import AgentHello, HelloGpu, MachineFacts
from core.services.accounts import AccountWatch
from core.services.market import MarketWatch

GRACE_S = 0.6  # above the harness's list lag; a real account's is a minute
ACCOUNT_PERIOD_S = 0.4
MARKET_PERIOD_S = 2.0
RESUME_S = 2.0
CLOCK_FILE = "seconds-ahead"
REFUSE_DEADLINE_FILE = "refuse-deadlines"
SHORT_WAITS_S = (0.05, 0.1, 0.2, 0.4)
READING_EVERY_S = 2.0


class _Channel:
    """An agent that shows exactly what the offer said."""

    is_open = True
    closed = False

    def __init__(self, engine: Engine, machine_id: str) -> None:
        machine = engine.context.store.state.machines[machine_id]
        self.hello = AgentHello(
            protocol=wire.PROTOCOL,
            version="harness",
            workspace="/workspace",
            gpus=[HelloGpu(i, f"GPU-{i}", machine.gpu, machine.vram_mib) for i in range(machine.gpu_count)],
        )
        self._clock = engine.context.clock
        self._machine_id = machine_id
        self._refuses = engine.home.state / REFUSE_DEADLINE_FILE

    async def readings(self) -> AsyncIterator[MachineReading]:
        while True:
            yield MachineReading(at=self._clock())
            await asyncio.sleep(READING_EVERY_S)

    async def judge(self, disk_mib: int = 64) -> MachineFacts:
        return MachineFacts(disk_write_bps=1e12)

    async def set_deadline(self, *_: Any) -> None:
        if self._refuses.exists():
            raise Unreachable("It does not take its end.", machine_id=self._machine_id)

    async def close(self) -> None:
        return


class InstantReach(Reach):
    """Stands where `Reach` stands: the one thing of the engine that is doubled here."""

    def __init__(self, engine: Engine) -> None:
        real = engine.context.reach
        super().__init__(identity=real.identity, known_hosts=real.known_hosts, clock=engine.context.clock)
        self._engine = engine

    async def connection(self, machine_id: str, addresses: Any, **_: Any) -> Any:
        return SimpleNamespace(fingerprint=f"SHA256:{machine_id}", machine_id=machine_id)

    async def agent(self, machine_id: str, addresses: Any, **_: Any) -> Any:
        channel = self._channels[machine_id] = _Channel(self._engine, machine_id)  # type: ignore[assignment]
        return channel


def compose(*, sweep: bool) -> Callable[..., Any]:
    """`build`, with SSH answered at once and waits as short as the harness's lab is quick."""

    async def built(*args: Any, **kwargs: Any) -> Engine:
        engine = await build(*args, **kwargs)
        engine.context.reach = InstantReach(engine)
        engine.context.clock = _clock(engine.home)
        for provider in engine.context.providers.values():
            provider.absence_grace_s = GRACE_S
        for watch in (getattr(run, "__self__", None) for run in engine.watches):
            if isinstance(watch, AccountWatch):
                watch.period_s = ACCOUNT_PERIOD_S
                if not sweep:
                    watch.sweep = _no_sweep  # type: ignore[method-assign]
            if isinstance(watch, MarketWatch):
                watch.period_s = MARKET_PERIOD_S
        return engine

    return built


def _clock(home: Home) -> Callable[[], float]:
    """The time, and as many seconds more as a test has written into the home."""
    path = home.state / CLOCK_FILE

    def now() -> float:
        return time.time() + (float(path.read_text() or 0) if path.exists() else 0.0)

    return now


async def _no_sweep(_: Any) -> None:
    return


def _serve(home: Home, log: int) -> None:
    """In the forked child: one engine life."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    random.seed()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(engine_main.run(home, with_parent=True) or 0)


def main(argv: list[str]) -> None:
    """Forks on demand until stdin ends; a child dies with its parent. Reaps before it forks again."""
    home = find(argv[0]).create()
    engine_main.build = compose(sweep="--no-sweep" not in argv)
    rent.BACKOFF_S = retire.RETRY_S = SHORT_WAITS_S
    once.RESUME_S = RESUME_S
    log = os.open(Path(argv[0]) / "engine.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    print("ready", flush=True)  # noqa: T201 - the harness reads it
    child = 0
    for line in sys.stdin:
        if child:
            os.waitpid(child, 0)
        if line.strip() != "start":
            break
        child = os.fork()
        if child == 0:
            _serve(home, log)
        print(child, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
