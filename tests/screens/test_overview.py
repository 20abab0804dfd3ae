"""The overview: what is chosen is drawn, and what is under way takes the curve's place."""

from __future__ import annotations

from tests.screens.days import TRAINS, booting, full, working
from tests.screens.stage import Stage, stage
from tui.screens.loss import loss_curve
from tui.screens.machine import MachineScreen
from tui.screens.overview import Overview
from tui.widgets.plot import Plot
from tui.widgets.timeline import Timeline


def overview(on: Stage) -> Overview:
    panel = on.console.panel
    assert isinstance(panel, Overview)
    return panel


async def test_the_loss_of_the_chosen_workspace_with_its_past() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("end")
        plot = overview(on).query_one("#loss", Plot)
        await on.until(lambda: bool(plot.series and plot.series[0].xs), "the curve")
        await on.until(lambda: len(plot.series[0].xs) > 100, "its past")
        assert plot.series[0].xs == sorted(plot.series[0].xs)
        assert "tts loss, step 12,380" in on.text()


async def test_what_is_being_rented_shows_its_steps() -> None:
    s, past = booting()
    async with stage(s, past=past) as on:
        assert overview(on).query_one("#doing", Timeline).display
        assert not overview(on).query_one("#loss", Plot).display
        await on.press("down")
        assert overview(on).query_one("#loss", Plot).display
        await on.press("home")
        assert "choose an offer" in overview(on).row_text()


async def test_enter_opens_the_machine_and_escape_comes_back_to_the_row() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("end", "enter")
        panel = on.console.panel
        assert isinstance(panel, MachineScreen)
        assert panel.machine_id == TRAINS
        await on.press("escape")
        assert overview(on).table.cursor_key == "tts"


async def test_the_events_of_a_row_open_the_log_with_only_those() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("end", "e")
        assert on.console.current_mode == "log"
        assert "workspace:tts" in on.text()


async def test_sorting_and_filtering_workspaces() -> None:
    s, past = full()
    async with stage(s, past=past) as on:
        await on.press("slash", *"risk", "enter")
        assert overview(on).rows.keys == ["eval"]
        await on.press("escape")
        assert len(overview(on).rows) == 4
        for _ in range(8):
            await on.press("o")
        assert overview(on).sort == "price"
        prices = [
            row.machine.usd_per_hour for key in overview(on).rows.keys if (row := overview(on).row(key)) and row.machine
        ]
        assert prices == sorted(prices)


async def test_the_engine_that_comes_back_is_shown_again() -> None:
    s, past = working()
    async with stage(s, past=past) as on:
        await on.engine.stop()
        await on.until(lambda: on.console.model.connection.state == "stale", "stale")
        await on.settle()
        assert "stale since" in on.text()
        s.say("workspace_lost", workspace="tts", machine=TRAINS, reason="while nobody looked")
        await on.engine.start()
        await on.live()
        assert "stale since" not in on.text()
        assert "SUSPECT" in on.text()


def test_a_step_reported_twice_keeps_its_newest_loss() -> None:
    from core.domain.readings import TelemetryPoint

    def at(when: float, step: int | None, loss: float | None) -> TelemetryPoint:
        return TelemetryPoint(when, 1.0, 1.0, 1.0, 1.0, 1.0, loss, step)

    assert loss_curve([at(2, 5, 1.0), at(1, 5, 9.0), at(3, None, 1.0), at(4, 4, None)]) == [(5.0, 1.0)]
