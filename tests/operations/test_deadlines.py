"""`up --for`: the end is handed to the machine before it is called ready, and the engine keeps it too."""

from __future__ import annotations

import asyncio

from core.domain import api
from core.domain.workspaces import UpSpec
from tests.bench.leaks_engine import CLOCK_FILE, REFUSE_DEADLINE_FILE
from tests.engine.running_engine import RunningEngine, fresh


async def test_a_machine_ends_when_its_time_is_up(engine: RunningEngine) -> None:
    machine = await engine.rented(for_s=60.0)
    assert machine.expires_at is not None
    assert machine.expires_at - (machine.asked_at or 0.0) == 60.0
    clock = engine.home.state / CLOCK_FILE
    clock.write_text("61.0")
    try:
        await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    finally:
        clock.unlink()
    operation = await engine.ended(f"expire-{machine.id}")
    assert operation.state == "done"
    assert (await engine.state()).workspaces[machine.workspace or ""].state == "retired"
    assert not engine.contracts(id=int(machine.provider_id or 0))[0]["exists"]


async def test_the_end_is_counted_from_the_agreement_over_a_kill(engine: RunningEngine) -> None:
    machine = await engine.rented(for_s=60.0)
    engine.kill()
    (engine.home.state / CLOCK_FILE).write_text("61.0")
    try:
        await asyncio.to_thread(engine.start)
        await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    finally:
        (engine.home.state / CLOCK_FILE).unlink()


async def test_a_machine_that_does_not_take_its_end_is_given_back(engine: RunningEngine) -> None:
    mark = engine.home.state / REFUSE_DEADLINE_FILE
    mark.touch()
    name = fresh()
    try:
        spec = UpSpec(gpu="4090", for_s=3600.0)
        await engine.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=spec))
        operation = await engine.ended(f"up-{name}")
    finally:
        mark.unlink()
    assert operation.state == "failed"
    assert "could not be handed over" in (operation.reason or "")
    state = await engine.state()
    assert state.workspaces[name].state == "failed"
    assert all(m.state in ("destroying", "destroyed") for m in state.machines.values() if m.workspace == name)
