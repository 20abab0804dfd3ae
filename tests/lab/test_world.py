"""The world under a manual clock: contracts, market, bids, billing, offers. No process, no port, no real second."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lab.catalogue import LIES, catalogue
from core.lab.clock import Clock
from core.lab.contracts import Order, Refused
from core.lab.gpus import MODELS
from core.lab.home import LabHome, LabRunning
from core.lab.state import Contract, WorldState
from core.lab.world import KEEP_DESTROYED_S, OPENING_CREDIT_USD, World

START = 1_790_000_000.0
BOOT_S = 10.0
VERBS = ("rent", "rent", "advance", "stop", "start", "destroy", "preempt", "die", "reboot")


def make(seed: int = 3) -> World:
    return World(Clock(START, manual=True), seed=seed, boot_s=BOOT_S)


def order(bid: float | None = None, **more: object) -> Order:
    plain = {"disk_gb": 20.0, "label": "x", "image": "i", "runtype": "ssh_proxy", "env": {}, "onstart": ""}
    return Order(bid_usd_per_hour=bid, **{**plain, **more})  # type: ignore[arg-type]


def cheapest(world: World, *, honest: bool = True) -> int:
    found = [
        (row.usd_per_gpu_hour * gpus, offer)
        for machine_id, row in world.state.market.items()
        for gpus, offer in row.offers.items()
        if not (honest and world.hosts[machine_id].lie)
    ]
    return min(found)[1]


def act(world: World) -> list[str]:
    """Carry out the effects as a lab without machines does; their kinds."""
    kinds = []
    for effect in list(world.state.pending):
        world.state.pending.remove(effect)
        kinds.append(effect.kind)
        contract = world.state.contracts.get(effect.contract_id)
        if contract and effect.kind in ("boot", "reboot"):
            world.booted(contract, effect.boot)
    return kinds


def advance(world: World, seconds: float, step: float = 1.0) -> None:
    while seconds > 0:
        world.clock.advance(min(step, seconds))
        seconds -= step
        world.tick()
        act(world)


def rent(world: World, bid: float | None = None, offer: int | None = None) -> Contract:
    return world.rent("vast", offer or cheapest(world), order(bid))


def test_catalogue_is_wide_and_repeatable() -> None:
    hosts = catalogue(3)
    assert len(hosts) >= 60
    assert len({host.gpu.name for host in hosts.values()}) >= 12
    assert len({host.country for host in hosts.values()}) >= 10
    assert catalogue(3) == hosts
    assert catalogue(4) != hosts


def test_every_lie_has_a_host_and_none_is_the_cheapest_of_its_class() -> None:
    hosts = catalogue(3)
    assert {host.lie for host in hosts.values() if host.lie} == set(LIES)
    for model in MODELS:
        prices = sorted((h.usd_per_gpu_hour, h.lie) for h in hosts.values() if h.gpu == model)
        assert prices[0][1] is None
        assert prices[1][1] is None


def test_boot_goes_through_its_phases_and_takes_its_time() -> None:
    world = make()
    contract = rent(world)
    seen = [(0.0, contract.phase)]
    for second in range(1, 15):
        advance(world, 1.0)
        if contract.phase != seen[-1][1]:
            seen.append((float(second), contract.phase))
    assert [phase for _, phase in seen] == ["provisioning", "loading", "booting", "running"]
    assert seen[-1][0] == BOOT_S


def test_a_late_boot_of_a_stopped_contract_changes_nothing() -> None:
    world = make()
    contract = rent(world)
    advance(world, BOOT_S * 0.85)
    assert contract.phase == "booting"
    world.stop(contract)
    world.start(contract)
    boots = contract.boots
    advance(world, BOOT_S * 2)
    assert contract.phase == "running"
    assert contract.boots == boots == 2


def test_storage_bills_while_stopped_and_gpus_only_while_running() -> None:
    world = make()
    contract = rent(world)
    advance(world, BOOT_S)
    loading_usd = contract.billed_usd
    assert loading_usd == pytest.approx(contract.storage_usd_per_hour * BOOT_S / 3600)
    advance(world, 3600.0, step=60.0)
    running_usd = contract.billed_usd - loading_usd
    assert running_usd == pytest.approx(contract.usd_per_hour + contract.storage_usd_per_hour)
    world.stop(contract)
    before, credit = contract.billed_usd, world.state.account.credit_usd
    advance(world, 3600.0, step=60.0)
    assert contract.billed_usd - before == pytest.approx(contract.storage_usd_per_hour)
    assert credit - world.state.account.credit_usd == pytest.approx(contract.storage_usd_per_hour)
    world.destroy(contract)
    total = contract.billed_usd
    advance(world, 100.0, step=10.0)
    assert contract.billed_usd == total


def test_an_empty_account_stops_everything_and_refuses_more() -> None:
    world = make()
    contract = rent(world)
    advance(world, BOOT_S)
    world.state.account.credit_usd = 0.0001
    advance(world, 600.0, step=60.0)
    assert (contract.phase, contract.intended) == ("stopped", "stopped")
    with pytest.raises(Refused, match="credit") as refused:
        rent(world)
    assert refused.value.code == "no_credit"


def test_too_low_a_bid_makes_a_stopped_contract_that_bills() -> None:
    world = make()
    contract = rent(world, bid=0.001)
    assert (contract.phase, contract.intended) == ("stopped", "stopped")
    advance(world, 3600.0, step=600.0)
    assert contract.billed_usd == pytest.approx(contract.storage_usd_per_hour)
    assert contract.pid == 0


def test_outbid_pauses_and_the_floor_falling_resumes() -> None:
    world = make()
    contract = rent(world, bid=5.0)
    advance(world, BOOT_S)
    world.outbid(contract, 1.3)
    assert (contract.phase, contract.intended) == ("outbid", "running")
    assert act(world) == ["stop"]
    world.calm(contract.machine_id)
    assert contract.phase == "loading"
    advance(world, BOOT_S)
    assert contract.phase == "running"


def test_raising_the_bid_resumes_and_a_user_stop_stays() -> None:
    world = make()
    contract = rent(world, bid=5.0)
    advance(world, BOOT_S)
    world.outbid(contract, 1.3)
    world.change_bid(contract, 7.0)
    assert contract.phase == "loading"
    world.stop(contract)
    world.outbid(contract, 1.3)
    world.change_bid(contract, 20.0)
    assert contract.phase == "stopped"


def test_the_market_moves_in_steps_within_its_bounds() -> None:
    world = make()
    first = {m: row.usd_per_gpu_hour for m, row in world.state.market.items()}
    changed = steps = 0
    last = dict(first)
    for _ in range(120):
        world.clock.advance(60.0)
        world.tick()
        for machine_id, row in world.state.market.items():
            steps += 1
            changed += row.usd_per_gpu_hour != last[machine_id]
            last[machine_id] = row.usd_per_gpu_hour
            assert 0.85 * first[machine_id] - 1e-4 <= row.usd_per_gpu_hour <= 1.2 * first[machine_id] + 1e-4
            assert row.floor_usd_per_gpu_hour <= row.usd_per_gpu_hour
    assert 0 < changed < steps * 0.2


def test_other_renters_come_and_go_and_offers_with_them() -> None:
    world = make()
    before = {offer for row in world.state.market.values() for offer in row.offers.values()}
    for _ in range(80):
        world.clock.advance(45.0)
        world.tick()
    after = {offer for row in world.state.market.values() for offer in row.offers.values()}
    assert before - after
    assert after - before
    assert set(world.gone_offers) >= before - after
    for machine_id, row in world.state.market.items():
        assert 0 <= row.others <= world.hosts[machine_id].gpu_count


def test_a_rented_slice_is_gone_and_comes_back_under_another_id() -> None:
    world = make()
    offer = cheapest(world)
    contract = rent(world, offer=offer)
    host = world.hosts[contract.machine_id]
    assert world.offer_of(offer) is None or world.free_gpus(host.machine_id) >= contract.gpus
    with_all = world.state.market[host.machine_id]
    with_all.others = host.gpu_count - contract.gpus
    world.settle_bids()
    with pytest.raises(Refused):
        world.rent("vast", offer, order())
    world.destroy(contract)
    assert contract.gpus in with_all.offers
    assert with_all.offers[contract.gpus] != offer


def test_a_stopped_machine_whose_gpus_are_taken_waits_for_them() -> None:
    world = make()
    contract = rent(world)
    advance(world, BOOT_S)
    world.stop(contract)
    row = world.state.market[contract.machine_id]
    row.others = world.hosts[contract.machine_id].gpu_count
    world.start(contract)
    assert (contract.phase, contract.intended) == ("scheduling", "running")
    row.others = 0
    world.settle_bids()
    world._after_gpus_moved()
    assert contract.phase == "loading"


def test_lists_lag_both_ways_and_destroyed_contracts_become_records() -> None:
    world = make()
    contract = rent(world)
    assert world.seen("vast", lag_s=0) == [contract]
    assert world.seen("vast", lag_s=30) == []
    advance(world, 40.0)
    assert world.seen("vast", lag_s=30) == [contract]
    world.destroy(contract)
    assert world.seen("vast", lag_s=0) == []
    assert world.seen("vast", lag_s=30) == [contract]
    advance(world, KEEP_DESTROYED_S + 1, step=10.0)
    assert contract.id not in world.state.contracts
    assert [r.id for r in world.state.history] == [contract.id]
    assert world.state.history[0].destroyed_at is not None


def test_hosts_that_never_boot_and_hosts_that_fail() -> None:
    world = make()
    stuck = world.rent("vast", cheapest(world), order(lie="no-boot"))
    failed = world.rent("vast", cheapest(world), order(lie="oci-error"))
    advance(world, BOOT_S * 100, step=10.0)
    assert stuck.phase == "loading"
    assert failed.phase == "failed"


def test_the_world_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    world = make()
    contract = rent(world, bid=5.0)
    advance(world, BOOT_S * 0.5)
    home = LabHome(tmp_path)
    home.save(world.snapshot())
    with pytest.raises(LabRunning):
        LabHome(tmp_path)
    loaded = home.load()
    home.close()
    assert loaded is not None
    again = World(Clock(0.0, manual=True), seed=99, boot_s=BOOT_S, state=loaded)
    assert again.clock.now() == world.clock.now()
    assert msgspec.to_builtins(again.state) == msgspec.to_builtins(world.state)
    advance(again, BOOT_S)
    assert again.state.contracts[contract.id].phase == "running"
    assert (tmp_path / "lab" / "world.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lab").stat().st_mode & 0o777 == 0o700


def test_state_round_trips_through_json() -> None:
    world = make()
    rent(world)
    data = msgspec.json.encode(world.snapshot())
    assert msgspec.to_builtins(msgspec.json.decode(data, type=WorldState)) == msgspec.to_builtins(world.state)


def test_clock_speed_and_resume() -> None:
    fast = Clock(START, speed=3600.0)
    first = fast.now()
    while fast.now() == first:
        pass
    assert fast.now() > first
    with pytest.raises(ValueError, match="go back"):
        fast.advance(-1)
    with pytest.raises(ValueError, match="above zero"):
        Clock(speed=0)


def test_scale_multiplies_the_honest_hosts_only() -> None:
    small, large = catalogue(3), catalogue(3, scale=3)
    liars = sum(host.lie is not None for host in small.values())
    assert len(large) == 3 * (len(small) - liars) + liars
    assert len(large) == len({host.machine_id for host in large.values()})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 7), st.floats(0.5, 120.0)), max_size=30),
    st.integers(0, 5),
)
def test_whatever_happens_gpus_money_and_contracts_add_up(acts: list[tuple[str, int, float]], seed: int) -> None:
    world = make(seed)
    made: list[Contract] = []
    for verb, which, amount in acts:
        contract = made[which % len(made)] if made else None
        if verb == "rent":
            made.append(rent(world, bid=amount / 10 if which % 2 else None))
        elif verb == "advance":
            advance(world, amount, step=7.0)
        elif contract is not None and contract.destroyed_at is None:
            {
                "stop": world.stop,
                "start": world.start,
                "destroy": world.destroy,
                "preempt": world.preempt,
                "die": lambda c: world.move(c, "die"),
                "reboot": lambda c: world.move(c, "reboot"),
            }[verb](contract)
        for machine_id in world.state.market:
            assert world.free_gpus(machine_id) >= 0
    everything = [*world.state.history, *world.state.contracts.values()]
    assert {c.id for c in made} == {each.id for each in everything}
    billed = sum(each.billed_usd for each in everything)
    assert billed == pytest.approx(OPENING_CREDIT_USD - world.state.account.credit_usd, abs=1e-4)
