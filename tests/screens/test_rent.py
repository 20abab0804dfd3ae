"""The rent sheet: the plan before, one intent, the timeline after."""

from __future__ import annotations

import pytest

from core.domain.errors import IntentRefused
from tests.screens.days import planned, refused
from tests.screens.stage import Stage, stage
from tests.screens.states import rented
from tui.screens.rent import RentSheet, stages
from tui.widgets.timeline import Timeline


def ups(on: Stage) -> list[dict[str, object]]:
    return [body for path, body in on.engine.asked if path == "/intents/up"]


async def test_enter_rents_what_was_shown_once() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "r", *"8h")
        await on.until(lambda: "rents it for" in on.text(), "the plan")
        sheet = on.console.screen
        assert isinstance(sheet, RentSheet)
        await on.press("enter")
        await on.press("enter")
        (up,) = ups(on)
        assert up["name"] == "work"
        spec = up["spec"]
        assert isinstance(spec, dict)
        assert (spec["offer"], spec["for_s"], spec["disk_gb"]) == (sheet.offer.id, 28_800.0, 40.0)
        assert up["operation"] in on.console.started


async def test_nothing_is_rented_while_the_plan_is_refused() -> None:
    s, past = refused()
    async with stage(s, past=past) as on:
        await on.press("2", "r")
        await on.until(lambda: "the limit is $5.00/h" in on.text(), "the refusal")
        await on.press("enter")
        assert ups(on) == []
        await on.press("escape")
        assert not isinstance(on.console.screen, RentSheet)


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("for", "8 parsecs", "is no duration"),
        ("disk", "1", "at least 8 GB"),
        ("name", "Bad Name", "cannot be a workspace"),
    ],
)
async def test_a_wrong_field_is_a_sentence(field: str, typed: str, said: str) -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "r")
        await on.until(lambda: "rents it for" in on.text(), "the plan")
        from tui.widgets.line import Line

        on.console.screen.query_one(f"#{field}", Line).value = typed
        await on.until(lambda: said in on.text(), said)
        await on.press("enter")
        assert ups(on) == []


async def test_a_refusal_of_the_engine_keeps_the_sheet_open() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        on.engine.refuse["/intents/up"] = IntentRefused("The name is taken.", hint="Choose another name.")
        await on.press("2", "r")
        await on.until(lambda: "rents it for" in on.text(), "the plan")
        await on.press("enter")
        await on.until(lambda: "The name is taken." in on.text(), "the refusal")
        assert isinstance(on.console.screen, RentSheet)
        assert on.console.started == set()


async def test_the_sheet_becomes_the_timeline_and_a_lie_is_told() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "r")
        await on.until(lambda: "rents it for" in on.text(), "the plan")
        await rented(on)
        assert on.console.screen.query_one(Timeline).display
        text = on.text()
        assert "570.86.15 was advertised" in text
        assert "give it back" in text
        assert "goes on by itself" in text
        await on.press("escape")
        await on.press("q")
        assert "Still running: rent work." in on.text()


async def test_in_a_low_window_earlier_tries_become_one_line() -> None:
    s, past = planned()
    async with stage(s, past=past) as on:
        await on.press("2", "r")
        await on.until(lambda: "rents it for" in on.text(), "the plan")
        await rented(on)
        (operation,) = [o for o in s.state.operations.values() if o.id in on.console.started]
        few = stages(operation, s.now, most=9)
        assert few[0].name == "1 given back"
        assert "advertised" in few[0].detail
        assert few[1].name == "choose an offer"
        assert len(stages(operation, s.now)) > len(few)
