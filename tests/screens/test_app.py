"""The frame: panels, keys, command bar, filter, pause, connection."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from textual.app import ComposeResult

from core.domain import api
from core.domain.events import Fact
from core.domain.readings import MachineReading
from tests.screens.test_bridge import asked
from tui.app import Console
from tui.panels import PanelSpec
from tui.screens.base import Panel
from tui.screens.panes import Table
from tui.widgets.columns import CellLike, Column


class Names:
    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def row_key(self, index: int) -> Hashable:
        return self.names[index]

    def stamp(self, index: int) -> Hashable:
        return 0

    def cells(self, index: int) -> Sequence[CellLike]:
        return ((self.names[index], "", ""),)


class One(Panel):
    scene = "market"
    tab = "market"
    rented = ""

    def body(self) -> ComposeResult:
        self.all = ["alpha", "beta", "gamma"]
        yield Table([Column("name", "NAME", 12, flex=1)], Names(self.all), id="table", classes="pane")

    def changed(self, topics: frozenset[str]) -> None:
        self.seen = getattr(self, "seen", 0) + 1
        self.query_one(Table).data_changed(reordered=True)

    def apply_filter(self, text: str) -> None:
        kept = [name for name in self.all if text in name]
        self.query_one(Table).set_source(Names(kept))
        self.count_filter(len(kept), len(self.all))

    def row_text(self) -> str:
        return str(self.query_one(Table).cursor_key)

    def action_rent(self, offer: str = "") -> None:
        type(self).rented = offer or str(self.query_one(Table).cursor_key)


class Two(One):
    scene = "machines"
    tab = "machines"


PANELS = (
    PanelSpec("market", "2", "Market", "Mkt", __name__, "One"),
    PanelSpec("machines", "4", "Machines", "Mach", __name__, "Two"),
)


class Local(PanelSpec):
    def factory(self) -> Any:
        return {"One": One, "Two": Two}[self.name]


@pytest.fixture
def console(engine: Any, clock: Any) -> Console:
    panels = tuple(Local(p.id, p.key, p.title, p.short, p.module, p.name) for p in PANELS)
    return Console(lambda: engine, clock=clock, panels=panels)


def text(app: Console) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def settle(app: Console, pilot: Any) -> None:
    await pilot.pause()
    await pilot.pause()
    app.pulse()
    app.tick()
    await pilot.pause()


async def test_the_frame(console: Console, snapshot: Any) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        snapshot(console, "frame_80x24")
        await pilot.resize_terminal(120, 36)
        await settle(console, pilot)
        snapshot(console, "frame_120x36")
        await pilot.resize_terminal(60, 15)
        await settle(console, pilot)
        snapshot(console, "frame_60x15")
        await pilot.resize_terminal(44, 12)
        await settle(console, pilot)
        assert "need 60x15; this is 44x12" in text(console)


async def test_numbers_change_panels_and_the_hidden_one_does_no_work(console: Console, engine: Any) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        await pilot.press("4")
        await settle(console, pilot)
        assert isinstance(console.screen, Two)
        hidden = next(panel for panel in console._standing() if type(panel) is One)
        before = hidden.seen
        engine.tell(api.Delta(facts=[Fact(seq=1, at=1.0, kind="engine_started", detail={"version": "1"})]))
        await settle(console, pilot)
        assert hidden.seen == before
        await pilot.press("2")
        await settle(console, pilot)
        assert console.screen is hidden
        assert hidden.seen == before + 1


async def test_filter_narrows_while_typing_and_escape_clears(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        await pilot.press("slash", "b", "e")
        await settle(console, pilot)
        assert "alpha" not in text(console)
        await pilot.press("enter")
        await settle(console, pilot)
        assert "/ be  1/3  esc clears" in text(console)
        await pilot.press("q" if False else "escape")
        await settle(console, pilot)
        assert "alpha" in text(console)
        assert "esc clears" not in text(console)
        assert console.focused is not None


async def test_a_command_is_completed_done_and_remembered(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        await pilot.press("colon", *"ren", "tab", *" 77", "enter")
        await settle(console, pilot)
        assert One.rented == "77"
        assert console.history == ["rent 77"]
        await pilot.press("colon", "up", "enter")
        await settle(console, pilot)
        assert console.history == ["rent 77"]


async def test_a_command_of_another_panel_goes_there_first(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await settle(console, pilot)
        await pilot.press("colon", *"rent x", "enter")
        await settle(console, pilot)
        assert isinstance(console.screen, One)
        assert One.rented == "x"


async def test_an_unknown_command_names_its_neighbours(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        await pilot.press("colon", *"markt", "enter")
        await settle(console, pilot)
        assert "Near: market" in next(note.message for note in console._notifications)


async def test_pause_holds_the_picture_and_says_for_how_long(console: Console, engine: Any, clock: Any) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        before = console.screen.seen
        await pilot.press("p")
        clock.at += 12
        engine.tell(api.Delta(facts=[Fact(seq=1, at=1.0, kind="engine_started", detail={"version": "1"})]))
        await settle(console, pilot)
        assert "PAUSED 12 s" in text(console)
        assert console.screen.seen == before
        await pilot.press("p")
        await settle(console, pilot)
        assert "PAUSED" not in text(console)
        assert console.screen.seen == before + 1


async def test_help_shows_the_keys_of_this_place_and_can_be_searched(console: Console) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        await pilot.press("question_mark")
        await settle(console, pilot)
        assert "rent" in text(console)
        assert "up" in text(console)
        await pilot.press(*"clipb")
        await settle(console, pilot)
        assert "no key and no command" in text(console)
        await pilot.press("escape")
        await settle(console, pilot)
        assert isinstance(console.screen, One)


async def test_the_engine_goes_and_comes_back(console: Console, engine: Any, clock: Any) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        assert "● engine" in text(console)
        engine.drop()
        await settle(console, pilot)
        clock.at += 42
        await settle(console, pilot)
        assert "stale since" in text(console)
        assert "(42 s)" in text(console)
        engine.running = True
        for _ in range(200):
            await pilot.pause(0.02)
            if engine.streams == 2:
                break
        await settle(console, pilot)
        assert "stale" not in text(console)


async def test_copy_says_what_it_copied_and_undo_ends(console: Console, clock: Any) -> None:
    undone: list[bool] = []

    async def undo() -> None:
        undone.append(True)

    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        await pilot.press("y")
        assert console.clipboard == "alpha"
        assert [note.message for note in console._notifications] == ["copied alpha"]
        console.offer_undo("alpha is marked", undo)
        await pilot.press("u")
        await pilot.pause()
        assert undone == [True]
        console.offer_undo("alpha is marked", undo)
        clock.at += 6
        await pilot.press("u")
        assert undone == [True]


async def test_quit_asks_once_while_something_of_ours_runs(console: Console, engine: Any) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        started = Fact(
            seq=1, at=1.0, kind="operation_started", operation="op1", workspace="tts", detail={"kind": "rent"}
        )
        engine.tell(api.Delta(facts=[started]))
        await settle(console, pilot)
        console.started.add("op1")
        await pilot.press("q")
        await settle(console, pilot)
        assert "Still running: rent tts." in text(console)
        await pilot.press("escape")
        await settle(console, pilot)
        assert console.return_code is None
        await pilot.press("q", "enter")
        await settle(console, pilot)
    assert console.return_value == 0


async def test_control_c_ends_nothing_and_escape_never_quits(console: Console) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        await pilot.press("ctrl+c", "escape", "escape", "ctrl+q")
        await settle(console, pilot)
        assert console.is_running
        assert [note.message for note in console._notifications] == ["q quits the console; machines and engine go on."]


async def test_zoom_and_back(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        await pilot.press("z")
        await settle(console, pilot)
        assert console.screen.maximized is not None
        assert "Understudy" in text(console)
        await pilot.press("escape")
        await settle(console, pilot)
        assert console.screen.maximized is None


async def test_the_drawer_shows_events_and_marks_them_read(console: Console, engine: Any) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        engine.tell(
            api.Delta(facts=[Fact(seq=1, at=1.0, kind="machine_lost", machine="m1", detail={"reason": "silent"})])
        )
        await settle(console, pilot)
        assert "! 1 new" in text(console)
        await pilot.press("exclamation_mark")
        await settle(console, pilot)
        assert "m1: lost: silent" in text(console)
        assert "1 new" not in text(console)
        await pilot.press("escape")
        await settle(console, pilot)
        assert "m1: lost" not in text(console)


async def test_the_menu_of_a_row_does_what_is_chosen(console: Console) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        One.rented = ""
        await pilot.press("a")
        await settle(console, pilot)
        assert "Show the plan and the price" in text(console)
        await pilot.press("enter")
        await settle(console, pilot)
        assert One.rented == "alpha"


async def test_themes_change_live(console: Console) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        for name in console.theme_names:
            await pilot.press("colon", *f"theme {name}", "enter")
            await settle(console, pilot)
            assert console.theme == name


async def test_the_palette_finds_actions_and_themes(console: Console) -> None:
    async with console.run_test(size=(100, 30)) as pilot:
        await settle(console, pilot)
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        assert "rent  (r)" in text(console)
        await pilot.press(*"theme paper")
        await pilot.pause(0.5)
        await pilot.press("enter", "enter")
        await settle(console, pilot)
        await pilot.pause(0.2)
        assert console.theme == "paper"


async def test_a_large_fleet_is_painted_once_a_second(console: Console, engine: Any, clock: Any) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await settle(console, pilot)
        console.model.take_delta(api.Delta(facts=[asked(seq, f"m{seq}") for seq in range(1, 100)]))
        clock.at += 5
        console.pulse()
        before = console.screen.seen
        for _ in range(4):
            console.model.take_delta(api.Delta(readings={"m1": MachineReading(at=clock.at)}))
            clock.at += 0.2
            console.pulse()
        assert console.screen.seen == before
        console.pulse(second=True)
        assert console.screen.seen == before + 1
        console.model.take_delta(api.Delta(facts=[asked(200, "m200")]))
        console.pulse()
        assert console.screen.seen == before + 2
