"""Nouns as rows: glyph and word together, ages honest, costs shown until proven gone."""

from __future__ import annotations

import typing

import pytest

from core.domain.machines import MachineState
from core.domain.market import HostHistory, PriceHistory, PricePoint
from core.domain.workspaces import WorkspaceState
from tests.screens.days import full, planned, refused
from tests.screens.scenario import Scenario
from tui import subjects
from tui.filters import MARKET, parse
from tui.render import events, machines, market, operations, overview, prices, rent, workspaces
from tui.render.cells import ASCII, UNICODE, Glyphs, Line


def said(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


@pytest.mark.parametrize("g", [UNICODE, ASCII])
def test_every_state_of_a_machine_has_a_glyph_and_a_word_of_its_own(g: Glyphs) -> None:
    s = Scenario()
    s.run("tts", "m-1")
    import msgspec

    seen = set()
    for state in typing.get_args(MachineState):
        machine = msgspec.structs.replace(s.state.machines["m-1"], state=state)
        badge = machines.badge(machine, g)
        assert badge.glyph
        assert badge.word
        seen.add(badge.word)
    assert len(seen) == len(typing.get_args(MachineState))


def test_every_state_of_a_workspace_has_a_badge() -> None:
    s = Scenario()
    s.run("tts", "m-1")
    import msgspec

    words = {
        workspaces.badge(msgspec.structs.replace(s.state.workspaces["tts"], state=state)).word
        for state in typing.get_args(WorkspaceState)
    }
    assert len(words) == len(typing.get_args(WorkspaceState))


def test_a_destroying_machine_shows_its_cost_and_that_proof_is_missing() -> None:
    s, _ = full()
    machine = s.state.machines["m-zz11aa22"]
    row = machines.cells(machine, None, (), s.now)
    assert row[machines.STATE].text == "DESTROYING"
    assert row[machines.PRICE].text == "0.170"
    assert "$" in row[machines.JOB].text
    assert "waiting for proof" in row[machines.JOB].text


def test_an_old_reading_is_grey_and_says_how_old() -> None:
    s = Scenario()
    s.run("tts", "m-1")
    s.read("m-1", 90.0, step=10, loss=2.0)
    fresh = machines.cells(s.state.machines["m-1"], s.readings["m-1"], [90.0], s.now)
    old = machines.cells(s.state.machines["m-1"], s.readings["m-1"], [90.0], s.now + 12)
    assert fresh[machines.UTIL].role == "run"
    assert old[machines.UTIL].role == "muted"
    assert "12s ago" in old[machines.JOB].text


def test_a_driver_that_says_nothing_is_a_dash() -> None:
    s = Scenario()
    s.run("tts", "m-1")
    import msgspec

    s.read("m-1", 50.0)
    silent = [
        msgspec.structs.replace(g, utilization_pct=None, temperature_c=None, power_w=None, memory_used_mib=None)
        for g in s.readings["m-1"].gpus
    ]
    reading = msgspec.structs.replace(s.readings["m-1"], gpus=silent)
    row = machines.cells(s.state.machines["m-1"], reading, [None], s.now)
    assert row[machines.UTIL].text.strip() == "–"
    assert row[machines.TEMP].text == "–"
    assert row[machines.WATT].text == "–"
    assert machines.gpu_line(reading.gpus[0], 70, False)


def test_a_stranger_is_dim_in_every_cell() -> None:
    s, _ = full()
    stranger = next(iter(s.state.strangers.values()))
    assert {cell.role for cell in machines.stranger_cells(stranger)} == {"dead"}


def test_the_timeline_says_what_is_still_to_come() -> None:
    s, _ = full()
    rows = operations.rows(s.state.operations["rent-llm"], s.now)
    assert [r.name for r in rows if r.state == "failed"] == ["check it against its offer"]
    assert [r.name for r in rows if r.state == "waiting"] == list(operations.EXPECTED["rent"][3:])
    assert "570.86.15 was advertised" in operations.as_text(s.state.operations["rent-llm"], s.now)


def test_the_expected_steps_are_those_of_the_operations() -> None:
    """The names are written twice, here and where the steps are; this holds them together."""
    from core.operations import arrive, retire
    from core.operations import rent as renting

    sources = ""
    for module in (renting, arrive, retire):
        with open(module.__file__, encoding="utf-8") as file:
            sources += file.read()
    for steps in operations.EXPECTED.values():
        assert [name for name in steps if f'@step("{name}")' not in sources] == []


def test_a_price_says_what_it_includes() -> None:
    s, _ = planned()
    text = said(market.detail(s.offers[0], market.Context(s.now, 40.0, {})))
    assert "40 GB" in text
    assert "all-in" in text
    assert "/GB in" in text
    assert "never rented by us" in text


def test_what_we_know_of_a_host_is_on_its_offer() -> None:
    s, _ = planned()
    offer = s.offers[0]
    history = HostHistory(
        provider="vast", host_id=offer.host_id, rented=3, ready=2, refused=1, boot_s_total=60.0, last_reason="lied"
    )
    text = said(market.detail(offer, market.Context(s.now, 40.0, {f"vast:{offer.host_id}": history})))
    assert "rented 3 times: 2 ready, 1 given back" in text
    assert "30 s to be ready" in text
    assert "lied" in text
    assert market.host_word(history) == ("2/3 ok", "warn")


@pytest.mark.parametrize("column", market.KEYS)
def test_every_column_sorts_both_ways_and_loses_nothing(column: str) -> None:
    s, _ = planned()
    context = market.Context(s.now, 40.0, {})
    for descending in (False, True):
        ordered = market.ordered(s.offers, column, descending, context)
        assert sorted(o.id for o in ordered) == sorted(o.id for o in s.offers)
        assert ordered == market.ordered(list(reversed(s.offers)), column, descending, context)


def test_an_offer_can_be_found_by_what_is_on_its_row() -> None:
    s, _ = planned()
    found = [o for o in s.offers if parse("gpu:4090 eu $<0.45 !spot", MARKET)(subjects.offer(o, None, 40.0, s.now))]
    assert found
    assert {o.gpu for o in found} == {"RTX 4090"}
    assert {o.kind for o in found} == {"on-demand"}
    assert max(o.usd_per_gpu_hour for o in found) < 0.45


def test_a_hole_in_the_history_is_a_gap_in_the_curve() -> None:
    points = [PricePoint(0.0, 1.0, 2.0, 5), PricePoint(1800.0, 1.0, 2.0, 5), PricePoint(36_000.0, 1.0, 2.0, 5)]
    curve = prices.series(PriceHistory(price_class="c", raw=[], buckets=points), 40_000.0, 1e6)[0]
    assert curve.ys == [2.0, 2.0, None, 2.0]


def test_single_observations_are_not_joined_by_a_line() -> None:
    history = PriceHistory(price_class="c", raw=[(10.0, 1.0, "a"), (20.0, 2.0, "b")], buckets=[])
    assert prices.raw_series(history, 100.0).ys == [1.0, None, 2.0, None]


def test_the_plan_says_all_of_the_money() -> None:
    s, _ = planned()
    assert s.plan is not None
    text = said(rent.plan_lines(rent.Wish("tts", s.offers[0], 28_800.0, 40.0), s.plan, s.now))
    for part in ("$0.366", "$8.78", "$2.93", "until 22 Nov", "$4.64/h", "3 machines", "next of 3", "38 s"):
        assert part in text, part
    s, _ = refused()
    assert s.plan is not None
    assert "until you destroy it" in said(rent.plan_lines(rent.Wish("a", s.offers[0], None, 40.0), s.plan, s.now))


def test_the_tiles_count_what_there_is() -> None:
    s, _ = full()
    tile = said(overview.machines(s.state.machines.values(), 1))
    for part in ("1 run", "1 boot", "2 end", "1 at risk", "1 not ours"):
        assert part in tile, part
    assert "2 bad" in said(overview.events(s.facts, s.now))


def test_the_hint_names_actions_that_exist() -> None:
    from tui.actions import Registry

    s, _ = full()
    for of in ([], list(s.state.workspaces.values()), [s.state.workspaces["tts"]], [s.state.workspaces["llm"]]):
        for action, words in overview.hint(of):
            assert Registry().get(action)
            assert words


def test_a_fact_is_a_line_with_time_glyph_and_words() -> None:
    s, _ = full()
    lines = [events.line(fact) for fact in s.facts]
    assert all(line[0][0].count(":") == 2 for line in lines)
    lost = next(said([line]) for line in lines if "lost" in said([line]))
    assert "✖" in lost
