"""Giving back: said only when proven, asked again until accepted, and nothing that is not ours is ever touched."""

from __future__ import annotations

import asyncio

import pytest

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError
from tests.bench.leaks_engine import GRACE_S
from tests.engine.running_engine import BOOT_TIMEOUT_S, RunningEngine, fresh

GONE = ("destroyed", "failed")


async def test_destroyed_is_said_after_two_listings_a_grace_apart(engine: RunningEngine) -> None:
    machine = await engine.rented()
    operation = await engine.down(machine.workspace)
    assert [s.name for s in operation.steps] == ["ask to destroy", "first listing without it", "close"]
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    at = {f.kind: f.at for f in await engine.facts(machine=machine.id)}
    assert at["machine_destroying"] <= at["machine_destroy_accepted"] <= at["machine_absent_once"]
    assert at["machine_destroyed"] - at["machine_absent_once"] >= GRACE_S
    assert operation.ended_at is not None
    assert operation.ended_at < at["machine_destroyed"]
    gone = (await engine.state()).machines[machine.id]
    assert gone.cost_before_usd > 0


async def test_a_lagging_listing_proves_nothing(engine: RunningEngine) -> None:
    machine = await engine.rented()
    made = engine.contracts(id=int(machine.provider_id or 0))[0]["created_at"]
    while engine.lab.control("GET", "/lab/truth")["lab_time"] - made <= 1.0:
        await asyncio.sleep(0.05)
    engine.fault("list-lag", options={"lag_s": 1.0})
    await engine.down(machine.workspace)
    assert not engine.contracts(id=int(machine.provider_id or 0))[0]["exists"]
    at = {f.kind: f.at for f in await engine.facts(machine=machine.id)}
    assert at["machine_absent_once"] - at["machine_destroy_accepted"] >= 0.9


async def test_a_listing_with_an_unreadable_row_proves_nothing(engine: RunningEngine) -> None:
    machine = await engine.rented()
    bystander = engine.lab.rent().json()["new_contract"]
    engine.fault("malformed-row", options={"endpoint": "list", "rows": 1})
    await engine.client.down(api.DownIntent(operation=fresh("down"), name=machine.workspace))
    await engine.until(lambda s: s.machines[machine.id].destroy_accepted_at)
    seen = engine.lab.control("GET", "/lab/truth")["calls"]["list"]
    while engine.lab.control("GET", "/lab/truth")["calls"]["list"] < seen + 5:
        await asyncio.sleep(0.05)
    assert (await engine.state()).machines[machine.id].state == "destroying"
    engine.lab.control("POST", "/lab/heal", {})
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    assert engine.contracts(id=bystander)[0]["exists"]
    engine.lab.vast("DELETE", f"/api/v0/instances/{bystander}/", {})


async def test_a_provider_that_is_down_leaves_it_destroying_and_counting(engine: RunningEngine) -> None:
    machine = await engine.rented()
    engine.fault("api-500", options={"endpoint": "destroy"})
    await engine.client.down(api.DownIntent(operation=fresh("down"), name=machine.workspace))
    await engine.until(lambda s: s.machines[machine.id].state == "destroying")
    while len([s for s in engine.lab.control("GET", "/lab/truth")["answers"] if s == "destroy 500"]) == 0:
        await asyncio.sleep(0.05)
    await engine.until(lambda s: s.machines[machine.id].burn_usd_per_hour > 0)
    refusals = [f for f in await engine.facts(machine=machine.id) if f.kind == "destroy_failed"]
    assert len(refusals) <= 1
    engine.lab.control("POST", "/lab/heal", {})
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    assert not engine.contracts(id=int(machine.provider_id or 0))[0]["exists"]


async def test_strangers_are_listed_and_never_touched(engine: RunningEngine) -> None:
    stranger = engine.lab.rent(label="somebody's own").json()["new_contract"]
    other = engine.lab.rent(label="understudy/0123456789/old.up-1.0").json()["new_contract"]
    seen = await engine.until(lambda s: len(s.strangers) == 2 and s.strangers)
    assert {k: v.owner for k, v in seen.items()} == {f"vast:{stranger}": None, f"vast:{other}": "0123456789"}
    machine = await engine.rented()
    await engine.down(None)
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    assert engine.contracts(id=stranger)[0]["exists"]
    assert engine.contracts(id=other)[0]["exists"]
    said = [f.kind for f in await engine.facts() if f.detail.get("provider_id") == str(stranger)]
    assert said.count("stranger_seen") == 1
    for each in (stranger, other):
        engine.lab.vast("DELETE", f"/api/v0/instances/{each}/", {})
    await engine.until(lambda s: not s.strangers)


async def test_a_stranger_is_adopted_on_request_and_is_ours_from_then_on(engine: RunningEngine) -> None:
    stranger = engine.lab.rent(label="understudy/0123456789/lost-laptop.up-1.0").json()["new_contract"]
    key = f"vast:{stranger}"
    await engine.until(lambda s: key in s.strangers)
    accepted = await engine.client.machine(api.MachineIntent(operation=fresh("ad"), machine=key, verb="adopt"))
    assert accepted.workspace == "lost-laptop"
    operation = await engine.ended(accepted.operation)
    assert operation.state == "done", operation
    state = await engine.state()
    assert key not in state.strangers
    machine = state.machines[state.workspaces["lost-laptop"].primary or ""]
    assert (machine.provider_id, machine.state) == (str(stranger), "ready")
    owner = (await engine.client.hello()).owner
    assert engine.contracts(id=stranger)[0]["label"] == f"understudy/{owner}/{machine.token}"
    with pytest.raises(NotFoundError):
        await engine.client.machine(api.MachineIntent(operation=fresh("ad"), machine=key, verb="adopt"))


async def test_a_machine_that_somebody_else_ended_is_said_to_have_vanished(engine: RunningEngine) -> None:
    machine = await engine.rented()
    engine.lab.vast("DELETE", f"/api/v0/instances/{machine.provider_id}/", {})
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    state = await engine.state()
    assert "vanished" in (state.machines[machine.id].reason or "")
    assert state.workspaces[machine.workspace or ""].state == "suspect"


async def test_a_closed_intents_machine_that_appears_late_is_destroyed(engine: RunningEngine) -> None:
    machine = await engine.rented()
    await engine.down(machine.workspace)
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    owner = (await engine.client.hello()).owner
    late = engine.lab.rent(label=f"understudy/{owner}/{machine.token}").json()["new_contract"]
    await engine.until(lambda s: s.machines[machine.id].provider_id == str(late))
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    assert not engine.contracts(id=late)[0]["exists"]
    assert "surplus_found" in [f.kind for f in await engine.facts(machine=machine.id)]


async def test_stop_and_start_and_what_a_stopped_machine_costs(engine: RunningEngine) -> None:
    machine = await engine.rented()
    await asyncio.sleep(BOOT_TIMEOUT_S)  # longer than a boot may take: a start is counted from the start
    for verb, state in (("stop", "stopped"), ("start", "ready")):
        operation = fresh(verb)
        await engine.client.machine(api.MachineIntent(operation=operation, machine=machine.id, verb=verb))  # type: ignore[arg-type]
        ended = await engine.ended(operation)
        assert ended.state == "done", ended
        now = (await engine.state()).machines[machine.id]
        assert now.state == state
        assert now.burn_usd_per_hour == (machine.storage_usd_per_hour if state == "stopped" else machine.usd_per_hour)
    with pytest.raises(IntentRefused, match="only a stopped machine"):
        await engine.client.machine(api.MachineIntent(operation=fresh("s"), machine=machine.id, verb="start"))


async def test_an_outbid_machine_is_paused_and_comes_back(engine: RunningEngine) -> None:
    machine = await engine.rented(kind="spot")
    engine.fault("outbid", machine=str(machine.provider_id))
    await engine.until(lambda s: s.machines[machine.id].state == "lost")
    state = await engine.state()
    assert "outbid" in (state.machines[machine.id].reason or "")
    assert state.workspaces[machine.workspace or ""].state == "suspect"
    engine.lab.control("POST", "/lab/heal", {})
    await engine.until(lambda s: s.machines[machine.id].state == "ready")


async def test_down_twice_is_refused_and_an_unknown_name_is_not_found(engine: RunningEngine) -> None:
    machine = await engine.rented()
    await engine.down(machine.workspace)
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    with pytest.raises(IntentRefused, match="retired already"):
        await engine.client.down(api.DownIntent(operation=fresh("down"), name=machine.workspace))
    with pytest.raises(NotFoundError):
        await engine.client.down(api.DownIntent(operation=fresh("down"), name="nobody"))
