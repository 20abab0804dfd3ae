"""What the engine costs with a thousand machines, and how soon it is back after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing

from core.domain import api
from core.domain.workspaces import UpSpec
from tests.bench.figures import Figure, median_of
from tests.bench.rig import Rig, cpu_s

MACHINES = 1000
ROWS = 1_000_000
OPEN_OPERATIONS = 5
WINDOW_S = 5.0
WARM_UP_S = 8.0


def load(windows: int) -> dict[str, Figure]:
    """`engine.cpu_pct_1000x1hz` and `engine.rss_mib_1000`: windows of five seconds with one client attached."""
    with Rig() as rig:
        rig.seed(MACHINES)
        process, _ = rig.engine("--fleet", rig.fleet(), "--full-rings")
        cpu, resident, heard = asyncio.run(_watch(rig, process, windows))
    rate = sum(heard) / len(heard) / WINDOW_S
    note = f"{MACHINES} sockets x 8 GPUs, {rate:.0f} readings/s reached the client; SSH's encryption not included"
    return {
        "engine.cpu_pct_1000x1hz": median_of(cpu, "% of a core", "<= 15", note),
        "engine.rss_mib_1000": median_of(resident, "MiB", "<= 400", "15 minutes of 1 Hz points of every machine held"),
    }


async def _watch(rig: Rig, process: object, windows: int) -> tuple[list[float], list[float], list[int]]:
    counted = 0

    async def client() -> None:
        nonlocal counted
        async with aclosing(rig.client.stream()) as updates:
            async for update in updates:
                if isinstance(update, api.Delta):
                    counted += len(update.readings)

    reading = asyncio.create_task(client())
    await asyncio.sleep(WARM_UP_S)
    cpu, resident, heard = [], [], []
    for _ in range(windows):
        began, used, before = time.monotonic(), cpu_s(process), counted  # type: ignore[arg-type]
        await asyncio.sleep(WINDOW_S)
        cpu.append(100 * (cpu_s(process) - used) / (time.monotonic() - began))  # type: ignore[arg-type]
        resident.append(process.memory_info().rss / 2**20)  # type: ignore[attr-defined]
        heard.append(counted - before)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return cpu, resident, heard


def restart(times: int) -> dict[str, Figure]:
    """`engine.restart_s`: from kill -9 to the first answer, with operations that go on afterwards."""
    with Rig() as rig:
        rig.seed(MACHINES, ROWS)
        process, _ = rig.engine()
        rig.lab.fault("stuck-boot", provider="vast")
        names = asyncio.run(_open_operations(rig))
        took = []
        for _ in range(times):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process, seconds = rig.engine()
            took.append(seconds)
            asyncio.run(_still_running(rig, names))
    note = f"{MACHINES} machines, {ROWS:,} journal rows, {OPEN_OPERATIONS} rents in flight; all went on"
    return {"engine.restart_s": median_of(took, "s", "<= 2", note)}


async def _open_operations(rig: Rig) -> list[str]:
    names = [f"open-{n}" for n in range(OPEN_OPERATIONS)]
    for name in names:
        await rig.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="4090")))
    while await _booting(rig, names) < len(names):
        await asyncio.sleep(0.1)
    return names


async def _booting(rig: Rig, names: list[str]) -> int:
    machines = (await rig.client.state()).state.machines.values()
    return sum(m.workspace in names and m.state == "booting" for m in machines)


async def _still_running(rig: Rig, names: list[str]) -> None:
    operations = (await rig.client.state()).state.operations
    states = [operations[f"up-{name}"].state for name in names]
    assert states == ["running"] * len(names), states
