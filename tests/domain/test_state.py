"""The fold: the same facts make the same state, wherever and in however many pieces they are folded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.budget import Budget, by_month, check, spend
from core.domain.errors import IntentRefused
from core.domain.events import SENTENCES, Fact, sentence, severity
from core.domain.machines import GONE, Machine, cost_usd
from core.domain.operations import Operation, Step, with_step
from core.domain.state import State, apply
from core.domain.units import month_of
from core.domain.workspaces import UpSpec

START = 1_790_000_000.0
HOUR = 3600.0
IDS = ("m-1", "m-2")
LIFE = (
    "machine_booting",
    "machine_checking",
    "machine_ready",
    "machine_lost",
    "machine_returned",
    "machine_paused",
    "machine_stopped",
    "machine_started",
    "machine_destroying",
    "machine_destroyed",
    "machine_failed",
)


def machine(machine_id: str = "m-1", **more: Any) -> Machine:
    values: dict[str, Any] = {
        "id": machine_id,
        "provider": "vast",
        "state": "asked",
        "state_since": START,
        "gpu": "RTX 4090",
        "gpu_count": 1,
        "vram_mib": 24_564,
        "kind": "on-demand",
        "usd_per_hour": 2.0,
        "storage_usd_per_hour": 0.5,
        "disk_gb": 40.0,
        "workspace": "w",
        "host_id": "h1",
    }
    return Machine(**(values | more))


def asked(one: Machine, seq: int = 1, at: float = START) -> Fact:
    return Fact(seq=seq, at=at, kind="machine_asked", machine=one.id, detail={"new_machine": msgspec.to_builtins(one)})


def fold(facts: list[Fact]) -> State:
    state = State()
    for fact in facts:
        apply(state, fact)
    return state


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Machines that are asked for and then go through any states at any times, sensible or not."""
    facts = [asked(machine(i), seq) for seq, i in enumerate(IDS, 1)]
    at = START
    for kind, machine_id in draw(st.lists(st.tuples(st.sampled_from(LIFE), st.sampled_from(IDS)), max_size=25)):
        at += draw(st.floats(0.0, 40 * 24 * HOUR))
        detail: dict[str, Any] = {"rented_at": at} if kind == "machine_booting" else {}
        if kind in ("machine_paused", "machine_lost"):
            detail["provider_state"] = "paused" if kind == "machine_paused" else "dead"
        facts.append(Fact(seq=len(facts) + 1, at=at, kind=kind, machine=machine_id, workspace="w", detail=detail))
    return facts


@settings(deadline=None)
@given(histories(), st.integers(0, 30))
def test_a_snapshot_and_the_rest_make_what_all_facts_make(facts: list[Fact], cut: int) -> None:
    early = msgspec.json.decode(msgspec.json.encode(fold(facts[:cut])), type=State)
    for fact in facts:
        apply(early, fact)  # facts that it has already are passed over
    assert early == fold(facts)


@settings(deadline=None)
@given(histories())
def test_what_changed_is_named_and_nothing_else_changes(facts: list[Fact]) -> None:
    state = State()
    for fact in facts:
        before = msgspec.json.decode(msgspec.json.encode(state), type=State)
        changed = apply(state, fact)
        for kind in ("machines", "hosts", "spend_by_month", "workspaces", "operations", "strangers", "providers"):
            old, new = getattr(before, kind), getattr(state, kind)
            assert {(kind, k) for k in old.keys() | new.keys() if old.get(k) != new.get(k)} <= changed


@settings(deadline=None)
@given(histories())
def test_no_dollar_is_counted_twice_or_lost(facts: list[Fact]) -> None:
    state = fold(facts)
    now = facts[-1].at
    closed = sum(state.spend_by_month.values())
    assert closed == pytest.approx(sum(m.cost_before_usd for m in state.machines.values()), rel=1e-6, abs=1e-9)
    assert all(m.burn_usd_per_hour == 0 for m in state.machines.values() if m.state in GONE)
    assert all(cost_usd(m, now) >= m.cost_before_usd for m in state.machines.values())


def test_a_stopped_stretch_costs_its_disk_only() -> None:
    def fact(seq: int, hours: float, kind: str, **detail: Any) -> Fact:
        return Fact(seq=seq, at=START + hours * HOUR, kind=kind, machine="m-1", detail=detail)

    state = fold(
        [
            asked(machine()),
            fact(2, 0, "machine_booting", rented_at=START),
            fact(3, 1, "machine_ready"),
            fact(4, 3, "machine_stopped"),
            fact(5, 7, "machine_started"),
            fact(6, 8, "machine_destroyed"),
        ]
    )
    assert cost_usd(state.machines["m-1"], START + 100 * HOUR) == pytest.approx(3 * 2.0 + 4 * 0.5 + 1 * 2.0)


@given(st.floats(START, START + 1e7), st.floats(0, 200 * 24 * HOUR), st.floats(0.01, 50))
def test_a_cost_is_shared_out_among_its_months_and_nothing_is_left_over(start: float, long: float, rate: float) -> None:
    shares = by_month(start, start + long, rate)
    assert sum(shares.values()) == pytest.approx(long / HOUR * rate, rel=1e-6, abs=1e-6)
    assert all(v >= 0 for v in shares.values())


def test_limits_judge_what_is_committed_and_not_only_what_is_billed() -> None:
    one = machine(usd_per_hour=2.0)
    spent = spend([one], {}, START)
    assert (spent.burn_usd_per_hour, spent.committed_usd_per_hour, spent.machines) == (0.0, 2.0, 1)
    check(Budget(usd_per_hour=4.0, usd_per_month=100, machines=2), spent, 2.0)
    for budget in (
        Budget(usd_per_hour=3.9, usd_per_month=100, machines=2),
        Budget(usd_per_hour=40, usd_per_month=1.9, machines=2),
        Budget(usd_per_hour=40, usd_per_month=100, machines=1),
    ):
        with pytest.raises(IntentRefused):
            check(budget, spent, 2.0)
    with pytest.raises(IntentRefused, match="this plan costs"):
        check(Budget(usd_per_hour=40, usd_per_month=100, machines=9), spent, 2.0, for_s=51 * HOUR)


def test_money_of_this_month_is_what_was_closed_in_it_and_what_runs() -> None:
    now = START + 2 * HOUR
    running = machine(state="ready", rented_at=START, rate_since=START)
    closed = {month_of(now): 10.0, "1999-01": 500.0}
    assert spend([running], closed, now).month_usd == pytest.approx(14.0)


def test_facts_of_unknown_kinds_and_machines_change_nothing() -> None:
    state = fold([asked(machine())])
    before = msgspec.json.encode(state)
    apply(state, Fact(seq=1, at=START, kind="machine_ready", machine="m-1"))
    assert msgspec.json.encode(state) == before
    changed = apply(state, Fact(seq=2, at=START, kind="something_of_the_future", machine="m-1", detail={"state": "x"}))
    changed |= apply(state, Fact(seq=3, at=START, kind="machine_ready", machine="m-unknown"))
    assert not changed
    assert state.machines["m-1"].state == "asked"


def test_a_workspace_follows_its_facts() -> None:
    def fact(seq: int, kind: str, **more: Any) -> Fact:
        return Fact(seq=seq, at=START + seq, kind=kind, workspace="w", **more)

    spec = {"spec": msgspec.to_builtins(UpSpec(gpu="4090"))}
    state = State()
    seen = []
    for n, kind in enumerate(("asked", "ready", "lost", "returned", "retiring", "retired"), 1):
        apply(state, fact(n, f"workspace_{kind}", machine="m-1", detail=spec if kind == "asked" else {"reason": "x"}))
        seen.append((state.workspaces["w"].state, state.workspaces["w"].primary))
    assert [s for s, _ in seen] == ["renting", "running", "suspect", "running", "retiring", "retired"]
    assert seen[1][1] == "m-1"
    assert seen[-1][1] is None


def test_a_step_that_ran_again_keeps_its_row_and_counts() -> None:
    operation = Operation(id="o", kind="rent", state="running", started_at=START)
    for attempt, state in ((1, "running"), (2, "running"), (2, "done")):
        operation = with_step(operation, Step(name="boot", state=state, attempt=attempt, started_at=START))  # type: ignore[arg-type]
    assert [(s.name, s.state, s.attempt) for s in operation.steps] == [("boot", "done", 2)]


@pytest.mark.parametrize("kind", SENTENCES)
def test_every_fact_reads_as_a_sentence_even_with_nothing_in_it(kind: str) -> None:
    fact = Fact(seq=1, at=START, kind=kind)
    assert sentence(fact)
    assert "{" not in sentence(fact)
    assert severity(fact) in ("info", "good", "warn", "bad")
