"""The market under the operator's hands: sort, filter, marks, detail, ten thousand offers."""

from __future__ import annotations

from core.domain.errors import EngineError
from tests.screens.days import empty, planned
from tests.screens.scenario import Scenario
from tests.screens.stage import Stage, stage
from tui.screens.market import Market
from tui.screens.offer import OfferDetail, OfferScreen
from tui.widgets.plot import Plot


def market(on: Stage) -> Market:
    panel = on.console.panel
    assert isinstance(panel, Market)
    return panel


async def test_the_cheapest_gpu_hour_stands_first() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2")
        usd = [market(on).offers[key].usd_per_gpu_hour for key in market(on).rows.keys]
        assert usd == sorted(usd)
        assert len(usd) == 240


async def test_sorting_by_another_column_keeps_the_cursor_on_its_offer() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "down", "down")
        before = market(on).table.cursor_key
        await on.press("o", "O")
        assert market(on).sort == "all"
        assert market(on).descending
        assert market(on).table.cursor_key == before


async def test_the_filter_narrows_as_it_is_typed_and_escape_takes_it_away() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "slash", *"gpu:4090")
        some = len(market(on).rows)
        assert {market(on).offers[key].gpu for key in market(on).rows.keys} == {"RTX 4090"}
        await on.press("space", *"n:8")
        fewer = len(market(on).rows)
        assert 0 < fewer < some
        await on.press("enter")
        assert f"{fewer}/240" in on.text()
        await on.press("escape")
        assert len(market(on).rows) == 240


async def test_a_word_that_is_not_understood_is_said_on_the_chip() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "slash", *"vram>many", "enter")
        assert "vram is a number" in on.text()
        assert len(market(on).rows) == 240


async def test_marks_are_copied_as_text_and_as_json() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "space", "space")
        panel = market(on)
        assert len(panel.row_text().splitlines()) == 2
        assert all(line.startswith("{") for line in panel.row_json().splitlines())
        assert "GPU-h" in panel.row_text()


async def test_the_detail_follows_the_cursor_and_the_history_is_asked_for_when_it_rests() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "down")
        detail = market(on).query_one(OfferDetail)
        await on.until(lambda: bool(detail.query_one("#month", Plot).series), "the history")
        assert detail.offer is not None
        assert detail.offer.id == market(on).table.cursor_key


async def test_in_a_narrow_window_enter_opens_the_detail() -> None:
    s, past = planned()
    async with stage(s, (80, 24), past=past) as on:
        await on.press("2")
        assert not market(on).query_one(OfferDetail).display
        await on.press("enter")
        assert isinstance(on.console.panel, OfferScreen)
        assert "GPU-hour" in on.text()
        await on.press("escape")
        assert isinstance(on.console.panel, Market)


async def test_a_new_listing_replaces_the_offers() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2")
        s.offers = s.offers[:10]
        status = s.markets["vast"]
        import msgspec

        s.markets["vast"] = msgspec.structs.replace(status, version=2, count=10, at=s.now)
        on.engine.tell_facts(s.state.seq)
        await on.until(lambda: len(market(on).rows) == 10, "the new listing")


async def test_an_engine_that_refuses_the_offers_is_said_with_its_next_step() -> None:
    s, past = empty()
    async with stage(s, past=past) as on:
        on.engine.refuse["/offers"] = EngineError("The store cannot be read.", hint="understudy doctor says more.")
        s.market(3)
        on.engine.tell_facts(s.state.seq)
        await on.press("2")
        await on.until(lambda: "store cannot be read" in on.text(), "the error")
        assert "understudy doctor" in on.text()


async def test_ten_thousand_offers_cost_what_is_visible() -> None:
    s = Scenario()
    s.market(10_000)
    async with stage(s) as on:
        await on.press("2")
        await on.until(lambda: len(market(on).rows) == 10_000, "the offers")
        table = market(on).table
        await on.press("down")
        before = table.paint_lines
        await on.pilot.press("down")
        assert table.paint_lines - before <= 2
        await on.press("slash", *"gpu:h100", "enter")
        assert {market(on).offers[key].gpu for key in market(on).rows.keys} == {"H100 SXM"}
