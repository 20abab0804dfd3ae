"""How long `up` takes beyond the machine's own boot, with real machines of the lab and real SSH."""

from __future__ import annotations

import asyncio
import time

from core.domain import api
from core.domain.workspaces import UpSpec
from tests.bench.figures import Figure, median_of
from tests.bench.rig import Rig

BOOT_S = 5.0
LIMIT_S = 120.0


def overhead(times: int) -> dict[str, Figure]:
    """`rent.overhead_s`: from the intent to ready, less the boot; calls paced as the real provider paces them."""
    with Rig(("--boot-s", str(BOOT_S))) as rig:
        rig.engine(pacing="real")
        took = [asyncio.run(_one(rig, n)) for n in range(times)]
    note = f"{BOOT_S:.0f} s of boot taken off; real SSH, agent, and the checks of disk and network"
    return {"rent.overhead_s": median_of(took, "s", "<= 3", note)}


async def _one(rig: Rig, number: int) -> float:
    name = f"bench-{number}"
    await _while(rig, lambda state: False)
    began = time.monotonic()
    await rig.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="4090")))
    await _while(rig, lambda state: state.workspaces[name].state == "renting")
    took = time.monotonic() - began
    state = (await rig.client.state()).state
    assert state.workspaces[name].state == "running", state.operations[f"up-{name}"]
    retries = sum(m.workspace == name for m in state.machines.values())
    assert retries == 1, "another machine was given back first: that is not what is measured"
    await rig.client.down(api.DownIntent(operation=f"down-{name}", name=name))
    await _while(rig, lambda state: any(m.state not in ("destroyed", "failed") for m in state.machines.values()))
    return took - BOOT_S


async def _while(rig: Rig, so: object) -> None:
    async with asyncio.timeout(LIMIT_S):
        while so((await rig.client.state()).state):  # type: ignore[operator]
            await asyncio.sleep(0.02)
