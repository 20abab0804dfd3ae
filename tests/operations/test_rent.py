"""Renting through the real provider client, ledger, DBOS and lab: what is refused, what is given back, what is kept."""

from __future__ import annotations

import asyncio

import pytest

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError
from core.domain.workspaces import UpSpec
from tests.engine.running_engine import RunningEngine, fresh


async def test_a_rent_ends_ready_and_every_step_can_be_read(engine: RunningEngine) -> None:
    name = fresh()
    machine = await engine.rented(name)
    operation = (await engine.state()).operations[f"up-{name}"]
    assert [s.name for s in operation.steps] == [
        "choose an offer",
        "ask for it",
        "boot",
        "reach it by SSH",
        "start the agent",
        "check it against its offer",
        "ready",
    ]
    assert {s.state for s in operation.steps} == {"done"}
    assert machine.state == "ready"
    assert machine.simulated
    (contract,) = engine.contracts(id=int(machine.provider_id or 0))
    assert contract["label"].endswith(f"/{machine.token}")
    kinds = [f.kind for f in await engine.facts(machine=machine.id)]
    assert kinds.index("machine_asked") < kinds.index("machine_booting") < kinds.index("machine_ready")


async def test_the_same_operation_acts_once_however_often_it_arrives(engine: RunningEngine) -> None:
    name = fresh()
    intent = api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="4090"))
    answers = await asyncio.gather(*(engine.client.up(intent) for _ in range(5)))
    assert len({a.operation for a in answers}) == 1
    await engine.ended(intent.operation)
    assert await engine.client.up(intent) == answers[0]
    asked = [f for f in await engine.facts(workspace=name) if f.kind == "machine_asked"]
    assert len(asked) == 1
    with pytest.raises(IntentRefused, match="something else"):
        await engine.client.up(api.UpIntent(operation=intent.operation, name=fresh(), spec=UpSpec(gpu="4090")))


async def test_a_taken_name_and_a_senseless_wish_are_refused_in_a_sentence(engine: RunningEngine) -> None:
    name = fresh()
    await engine.rented(name)
    with pytest.raises(IntentRefused, match="exists already"):
        await engine.client.up(api.UpIntent(operation=fresh("op"), name=name, spec=UpSpec(gpu="4090")))
    wrong = (UpSpec(), UpSpec(gpu="4090", count=0), UpSpec(gpu="4090", disk_gb=1), UpSpec(gpu="4090", for_s=5))
    for spec in wrong:
        with pytest.raises(IntentRefused):
            await engine.client.up(api.UpIntent(operation=fresh("op"), name=fresh(), spec=spec))
    with pytest.raises(IntentRefused, match="name"):
        await engine.client.up(api.UpIntent(operation=fresh("op"), name="../x", spec=UpSpec(gpu="4090")))


async def test_nothing_fits_ends_failed_and_rents_nothing(engine: RunningEngine) -> None:
    before = len(engine.contracts())
    operation = await engine.up(gpu="RTX 9999")
    assert operation.state == "failed"
    assert "No offer fits" in (operation.reason or "")
    assert len(engine.contracts()) == before


async def test_limits_are_judged_before_a_create(engine: RunningEngine) -> None:
    await engine.client.budget(api.BudgetIntent(operation=fresh("b"), machines=1))
    try:
        before = len(engine.contracts())
        names = [fresh() for _ in range(3)]
        spec = UpSpec(gpu="4090")
        asked = await asyncio.gather(
            *(engine.client.up(api.UpIntent(operation=f"up-{n}", name=n, spec=spec)) for n in names),
            return_exceptions=True,
        )
        ends = [await engine.ended(f"up-{n}") for n, a in zip(names, asked, strict=True) if isinstance(a, api.Accepted)]
        assert sum(e.state == "done" for e in ends) == 1
        assert len(engine.contracts()) == before + 1
        with pytest.raises(IntentRefused, match="limit is 1"):
            await engine.client.up(api.UpIntent(operation=fresh("op"), name=fresh(), spec=spec))
    finally:
        await engine.client.budget(api.BudgetIntent(operation=fresh("b"), machines=100))


async def test_a_price_limit_refuses_at_once(engine: RunningEngine) -> None:
    await engine.client.budget(api.BudgetIntent(operation=fresh("b"), usd_per_hour=0.01))
    try:
        with pytest.raises(IntentRefused, match=r"the limit is \$0.01/h"):
            await engine.client.up(api.UpIntent(operation=fresh("op"), name=fresh(), spec=UpSpec(gpu="4090")))
        plan = await engine.client.plan(api.UpIntent(operation=fresh("op"), name=fresh(), spec=UpSpec(gpu="4090")))
        assert plan.refused is not None
        assert plan.offers
    finally:
        await engine.client.budget(api.BudgetIntent(operation=fresh("b"), usd_per_hour=1000.0))


async def test_a_stuck_boot_is_destroyed_and_the_next_offer_tried(engine: RunningEngine) -> None:
    plan = await engine.client.plan(api.UpIntent(operation=fresh("op"), name=fresh(), spec=UpSpec(gpu="4090")))
    stuck = plan.offers[0]
    engine.fault("stuck-boot", machine=stuck.machine_ref)
    name = fresh()
    machine = await engine.rented(name)
    assert machine.machine_ref != stuck.machine_ref
    first = next(m for m in (await engine.state()).machines.values() if m.workspace == name and m.id != machine.id)
    assert first.state in ("destroying", "destroyed")
    assert "did not boot" in (first.reason or "")
    host = await engine.client.host(stuck.provider, stuck.host_id)
    assert host.rented >= 1
    assert host.refused >= 1
    assert "did not boot" in (host.last_reason or "")


async def test_a_blocked_host_is_not_taken(engine: RunningEngine) -> None:
    spec = UpSpec(gpu="4090")
    best = (await engine.client.plan(api.UpIntent(operation=fresh("op"), name=fresh(), spec=spec))).offers[0]
    host = f"{best.provider}:{best.host_id}"
    await engine.client.host_intent(api.HostIntent(operation=fresh("h"), host=host, verb="block", reason="noisy"))
    try:
        machine = await engine.rented()
        assert machine.host_id != best.host_id
    finally:
        await engine.client.host_intent(api.HostIntent(operation=fresh("h"), host=host, verb="unblock"))
    plan = await engine.client.plan(api.UpIntent(operation=fresh("op"), name=fresh(), spec=spec))
    assert best.host_id in {o.host_id for o in plan.offers}


async def test_a_create_that_errs_but_works_is_found_and_destroyed(engine: RunningEngine) -> None:
    engine.fault("created-but-error", options={"count": 1})
    name = fresh()
    machine = await engine.rented(name)
    await engine.until(lambda s: all(m.state in ("destroyed", "failed", "ready") for m in s.machines.values()))
    contracts = [c for c in engine.contracts() if f"/{name}." in (c["label"] or "")]
    assert len(contracts) == 2
    assert [c["id"] for c in contracts if c["exists"]] == [int(machine.provider_id or 0)]
    kinds = [f.kind for f in await engine.facts()]
    assert "create_ambiguous" in kinds
    assert "surplus_found" in kinds


async def test_cancelling_while_it_is_created_leaves_nothing(engine: RunningEngine) -> None:
    names = [fresh() for _ in range(6)]
    for n, name in enumerate(names):
        await engine.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="4090")))
        await asyncio.sleep(0.01 * n)
        await engine.client.cancel(api.Intent(operation=f"stop-{name}"), f"up-{name}")
    for name in names:
        assert (await engine.ended(f"up-{name}")).state == "cancelled"
        await engine.ended(f"stop-{name}")
    await engine.until(lambda s: all(m.state in ("destroyed", "failed") for m in s.machines.values()))
    assert not [c for c in engine.contracts(exists=True) if any(f"/{n}." in (c["label"] or "") for n in names)]
    state = await engine.state()
    assert {state.workspaces[name].state for name in names} == {"retired"}


async def test_what_is_unknown_or_over_cannot_be_cancelled(engine: RunningEngine) -> None:
    with pytest.raises(NotFoundError):
        await engine.client.cancel(api.Intent(operation=fresh("c")), "nothing")
    operation = await engine.up(gpu="RTX 9999")
    with pytest.raises(IntentRefused, match="ended already"):
        await engine.client.cancel(api.Intent(operation=fresh("c")), operation.id)
