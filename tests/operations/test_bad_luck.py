"""A cloud in trouble: one sentence, what was known stays, and it goes on by itself when the trouble ends."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from core.domain import api
from core.domain.workspaces import UpSpec
from core.providers.vast_rows import BID_SUFFIX
from tests.engine.running_engine import RunningEngine, fresh

TROUBLES = {
    "bad-key": {},
    "api-500": {"endpoint": "list,search"},
    "html-body": {"endpoint": "list,search"},
    "api-timeout": {"endpoint": "list,search", "hold_s": 0.2},
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_failing_provider_is_said_once_and_recovers(engine: RunningEngine, trouble: str) -> None:
    machine = await engine.rented()
    engine.fault(trouble, provider="vast", options=TROUBLES[trouble])
    status = await engine.until(lambda s: not s.providers["vast"].ok and s.providers["vast"])
    assert status.error
    assert "\n" not in status.error
    assert "Traceback" not in status.error
    assert (await engine.state()).machines[machine.id].state == "ready"
    engine.lab.control("POST", "/lab/heal", {})
    await engine.until(lambda s: s.providers["vast"].ok)
    said = [f.kind for f in await engine.facts() if f.kind in ("provider_failed", "provider_recovered")]
    assert all(a != b for a, b in itertools.pairwise(said)), "no word twice in a row"


async def test_one_unreadable_row_is_counted_and_the_others_are_offered(engine: RunningEngine) -> None:
    async def skipped(count: int) -> api.OffersReply:
        while True:
            reply = await engine.client.offers()
            if (reply.providers[0].rows_skipped > 0) == (count > 0):
                return reply
            await asyncio.sleep(0.1)

    whole = await skipped(0)
    engine.fault("malformed-row", options={"endpoint": "search", "rows": 1})
    broken = await skipped(1)
    assert broken.providers[0].ok
    assert len(broken.offers) >= len(whole.offers) - 2 * broken.providers[0].rows_skipped - 4


async def test_an_empty_market_is_a_reason_and_no_machine(engine: RunningEngine) -> None:
    engine.fault("stockout")
    while (await engine.client.offers()).offers:
        await asyncio.sleep(0.1)
    operation = await engine.up()
    assert operation.state == "failed"
    assert "No offer fits" in (operation.reason or "")
    engine.lab.control("POST", "/lab/heal", {})
    while not (await engine.client.offers()).offers:
        await asyncio.sleep(0.1)


async def test_a_bid_that_lost_meanwhile_leaves_nothing_behind(engine: RunningEngine) -> None:
    """Vast makes a stopped contract, whose disk bills, for a bid below the floor: it is named, and destroyed."""
    offers = (await engine.client.offers(api.OfferFilter(kind="spot"))).offers
    roomy = {o.machine_ref for o in offers if o.gpu_count >= 2}
    wanted = next(o for o in offers if o.gpu_count == 1 and o.machine_ref in roomy)
    engine.fault("api-timeout", options={"endpoint": "search", "hold_s": 30.0})  # the prices known here grow old
    rival = engine.lab.rent(int(wanted.id.removesuffix(BID_SUFFIX)), price=5.0).json()["new_contract"]
    engine.fault("outbid", machine=str(rival))
    name = fresh()
    spec = UpSpec(gpu=wanted.gpu, kind="spot", offer=wanted.id)
    await engine.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=spec))
    operation = await engine.ended(f"up-{name}")
    assert operation.state == "failed", operation
    (made,) = [c for c in engine.contracts() if f"/{name}." in (c["label"] or "")]
    machine = next(m for m in (await engine.state()).machines.values() if m.workspace == name)
    assert machine.provider_id == str(made["id"])
    await engine.until(lambda s: s.machines[machine.id].state == "destroyed")
    assert not engine.contracts(id=made["id"])[0]["exists"]
    engine.lab.vast("DELETE", f"/api/v0/instances/{rival}/", {})


async def test_hostile_text_is_harmless_wherever_it_arrives(engine: RunningEngine) -> None:
    engine.fault("hostile-text", provider="vast")
    await engine.rented()
    state = str(await engine.state()) + str([str(f) for f in await engine.facts()])
    assert "\\x1b" not in state
    assert "\x1b" not in state
