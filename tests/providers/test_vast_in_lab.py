"""The Vast.ai client against the lab: another hand's reading of the same API, over real HTTP, with its faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from core.domain.errors import AuthRefused, MachineNotFound, NoCapacity, RateLimited, Unavailable, Unexpected
from core.providers.base import ProviderMachine, Rented, RentRequest
from core.providers.vast import Vast
from tests.lab.running_lab import RunningLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    home = tmp_path_factory.mktemp("lab") / "h"
    home.mkdir()
    running = RunningLab(home, "--no-machines", "--pacing", "off", "--manual-clock").start()
    yield running
    running.close()


@pytest.fixture
async def vast(lab: RunningLab) -> AsyncIterator[Vast]:
    token = lab.about["token"]
    client = Vast(base_url=lab.vast_url, api_key=lambda: token, simulated=True, pacing_scale=0.0, absence_grace_s=2.0)
    yield client
    await asyncio.to_thread(lab.control, "POST", "/lab/heal", {})
    await client.close()


async def _fault(lab: RunningLab, name: str, **body: Any) -> None:
    answer = await asyncio.to_thread(lambda: lab.fault(name, **body))
    assert answer.status_code == 200, answer.text


async def _rent(vast: Vast, kind: str = "on-demand", skip: int = 0, **changes: Any) -> Rented:
    offer = [o for o in (await vast.offers()).offers if o.kind == kind and o.gpu_count == 1][skip]
    price = None if kind == "on-demand" else (offer.min_bid_usd_per_hour or 0) * 1.2
    wanted: dict[str, Any] = {
        "offer_id": offer.id,
        "label": "understudy/me/t1",
        "image": vast.default_image,
        "disk_gb": 10.0,
        "price_usd_per_hour": price,
    }
    return await vast.rent(RentRequest(**{**wanted, **changes}))


async def _machine(vast: Vast, provider_id: str) -> ProviderMachine | None:
    listing = await vast.machines()
    return next((m for m in listing.machines if m.provider_id == provider_id), None)


async def _rent_running(lab: RunningLab, vast: Vast, kind: str = "on-demand") -> tuple[Rented, ProviderMachine]:
    """A machine that runs: hosts that never boot, of which the lab has some, are given back."""
    for skip in range(10):
        rented = await _rent(vast, kind, skip)
        first = await _machine(vast, rented.provider_id)
        assert first is not None
        assert (first.state, first.label, first.addresses) == ("starting", "understudy/me/t1", ())
        await asyncio.to_thread(lab.advance, 300.0)
        machine = await _machine(vast, rented.provider_id)
        assert machine is not None
        if machine.state == "running":
            return rented, machine
        await vast.destroy(rented.provider_id)
    raise AssertionError("nothing boots")


async def test_the_whole_market_is_read(vast: Vast) -> None:
    page = await vast.offers()
    assert page.rows_skipped == 0
    assert len({o.id for o in page.offers}) == len(page.offers) > 100
    assert {o.kind for o in page.offers} == {"on-demand", "spot"}
    assert len({o.country for o in page.offers}) >= 10
    assert len({o.gpu for o in page.offers}) >= 12
    assert all(o.vram_mib > 1000 and o.ram_mib and o.disk_gb and o.inet_down_mbps for o in page.offers)


async def test_a_machine_from_order_to_end(lab: RunningLab, vast: Vast) -> None:
    rented, running = await _rent_running(lab, vast)
    assert rented.own_key
    assert running.usd_per_hour > running.storage_usd_per_hour > 0
    assert isinstance(await vast.logs(rented.provider_id, 20), str)
    await vast.stop(rented.provider_id)
    await asyncio.to_thread(lab.advance, 60.0)
    stopped = await _machine(vast, rented.provider_id)
    assert stopped is not None
    assert stopped.state == "stopped"
    await vast.start(rented.provider_id)
    await vast.destroy(rented.provider_id)
    await vast.destroy(rented.provider_id)
    assert await _machine(vast, rented.provider_id) is None
    with pytest.raises(MachineNotFound):
        await vast.stop(rented.provider_id)


async def test_thirty_machines_are_listed_over_two_pages(vast: Vast) -> None:
    made = [await _rent(vast) for _ in range(30)]
    listing = await vast.machines()
    assert {r.provider_id for r in made} <= {m.provider_id for m in listing.machines}
    assert listing.rows_skipped == 0
    for rented in made:
        await vast.destroy(rented.provider_id)


async def test_an_outbid_machine_is_paused(lab: RunningLab, vast: Vast) -> None:
    rented, machine = await _rent_running(lab, vast, "spot")
    assert machine.kind == "spot"
    await vast.change_bid(rented.provider_id, machine.usd_per_hour * 1.5)
    await _fault(lab, "outbid", machine=rented.provider_id)
    await asyncio.to_thread(lab.advance, 5.0)
    paused = await _machine(vast, rented.provider_id)
    assert paused is not None
    assert paused.state == "paused"
    await vast.destroy(rented.provider_id)


async def test_a_bid_too_low_names_the_contract_it_left(vast: Vast) -> None:
    with pytest.raises(NoCapacity) as caught:
        await _rent(vast, "spot", price_usd_per_hour=0.001)
    left = caught.value.left_behind
    assert left is not None
    assert await _machine(vast, left) is not None
    await vast.destroy(left)
    assert await _machine(vast, left) is None


async def test_an_offer_that_is_gone_is_no_capacity(lab: RunningLab, vast: Vast) -> None:
    with pytest.raises(NoCapacity) as caught:
        await _rent(vast, offer_id="999999999")
    assert caught.value.left_behind is None


async def test_the_machines_own_key_ends_it_and_nothing_else(lab: RunningLab, vast: Vast) -> None:
    rented, other = await _rent(vast), await _rent(vast)
    key = rented.own_key or ""
    for target, works in ((other, False), (rented, True)):
        method, url = vast.self_destruct(target.provider_id)
        answer = await asyncio.to_thread(
            lambda method=method, url=url: lab.http.request(
                method, url, json={}, headers={"Authorization": f"Bearer {key}"}
            )
        )
        assert (answer.status_code == 200) is works
    assert await _machine(vast, rented.provider_id) is None
    await vast.destroy(other.provider_id)


async def test_keys_and_account(vast: Vast) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvyl0yGs0BKXuCOjgBzGJRcqPZyMNkLZP2c7X1mZ9dK understudy"
    await vast.authorise_key(line)
    await vast.authorise_key(line)
    account = await vast.account()
    assert account.credit_usd is not None
    assert account.name == "lab@lab.invalid"


async def test_a_wrong_key_is_refused_everywhere(lab: RunningLab) -> None:
    client = Vast(base_url=lab.vast_url, api_key=lambda: "wrong", simulated=True, pacing_scale=0.0)
    for call in (client.offers, client.machines, client.account):
        with pytest.raises(AuthRefused):
            await call()
    with pytest.raises(AuthRefused):
        await client.destroy("1")
    await client.close()


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        ("api-429", (RateLimited,)),
        ("api-500", (Unavailable,)),
        ("html-body", (Unexpected, Unavailable)),
        ("bad-key", (AuthRefused,)),
    ],
)
async def test_the_labs_faults_become_our_errors(
    lab: RunningLab, vast: Vast, fault: str, errors: tuple[type[Exception], ...]
) -> None:
    await _fault(lab, fault)
    for call in (vast.offers, vast.machines, vast.account):
        with pytest.raises(errors):
            await call()


async def test_malformed_rows_are_counted_and_hostile_text_is_harmless(lab: RunningLab, vast: Vast) -> None:
    whole = len((await vast.offers()).offers)
    await _fault(lab, "malformed-row")
    page = await vast.offers()
    assert page.rows_skipped > 0
    assert len(page.offers) + page.rows_skipped == whole
    await asyncio.to_thread(lab.control, "POST", "/lab/heal", {})
    await _fault(lab, "hostile-text")
    rented = await _rent(vast)
    texts = [t for o in (await vast.offers()).offers for t in (o.gpu, o.region, o.country, o.driver_version or "")]
    for machine in (await vast.machines()).machines:
        texts += [machine.status_text, machine.label, machine.gpu, machine.region]
    assert all(text.isprintable() for text in texts)
    await vast.destroy(rented.provider_id)


async def test_created_but_error_is_unclear_and_the_machine_is_found_by_its_label(lab: RunningLab, vast: Vast) -> None:
    await _fault(lab, "created-but-error")
    with pytest.raises((Unavailable, Unexpected)) as caught:
        await _rent(vast, label="understudy/me/unclear")
    assert caught.value.outcome_unknown
    await asyncio.to_thread(lab.control, "POST", "/lab/heal", {})
    (found,) = [m for m in (await vast.machines()).machines if m.label == "understudy/me/unclear"]
    await vast.destroy(found.provider_id)
