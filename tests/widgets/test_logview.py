"""The log: follow, search, times, wrapping, and what a hostile machine may write."""

from __future__ import annotations

from textual.app import App, ComposeResult

from tui.widgets.logview import LogView, harmless, log_line


class Bare(App[None]):
    def __init__(self, kept: int = 20_000) -> None:
        super().__init__()
        self.view = LogView(clock=lambda: 1000.0, kept=kept)

    def compose(self) -> ComposeResult:
        yield self.view


def lines(app: App[None]) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def some(count: int, start: int = 0) -> list:
    return [log_line([(f"step {number}", "")], at=900.0) for number in range(start, start + count)]


async def test_follows_until_one_scrolls_up_and_says_what_came_meanwhile() -> None:
    app = Bare()
    async with app.run_test(size=(40, 10)) as pilot:
        app.view.append(some(100))
        await pilot.pause()
        assert lines(app)[-1] == "step 99"
        app.view.action_move(-1)
        app.view.append(some(12, 100))
        await pilot.pause()
        assert lines(app)[-1] == "step 98"
        assert app.view.unseen == 12
        app.view.action_follow()
        await pilot.pause()
        assert lines(app)[-1] == "step 111"
        assert (app.view.following, app.view.unseen) == (True, 0)


async def test_search_goes_from_match_to_match_and_can_hide_the_rest() -> None:
    app = Bare()
    async with app.run_test(size=(40, 10)) as pilot:
        app.view.append(some(100))
        await pilot.pause()
        assert app.view.search("STEP 2") == 11
        app.view.action_match(-1)
        await pilot.pause()
        assert lines(app)[0] == "step 29"
        app.view.action_match(-1)
        await pilot.pause()
        assert lines(app)[0] == "step 28"
        app.view.action_only_matches()
        app.view.action_edge(False)
        await pilot.pause()
        assert lines(app)[:3] == ["step 2", "step 20", "step 21"]


async def test_times_are_of_day_or_ages() -> None:
    app = Bare()
    async with app.run_test(size=(40, 10)) as pilot:
        app.view.append([*some(1), log_line([("no time", "")])])
        app.view.action_timestamps()
        app.view.action_timestamps()
        await pilot.pause()
        assert lines(app)[:2] == ["  1m40s step 0", "        no time"]


async def test_wrapping_counts_cells() -> None:
    app = Bare()
    async with app.run_test(size=(11, 10)) as pilot:
        app.view.append([log_line([("東京東京東京", ""), ("abcdef", "bad")])])
        app.view.action_wrap()
        await pilot.pause()
        assert lines(app)[:2] == ["東京東京東", "京abcdef"]


async def test_the_ring_forgets_the_oldest() -> None:
    app = Bare(kept=500)
    async with app.run_test(size=(40, 10)) as pilot:
        for start in range(0, 5000, 100):
            app.view.append(some(100, start))
        await pilot.pause()
        assert len(app.view) <= 1000
        assert lines(app)[-1] == "step 4999"
        app.view.action_edge(False)
        await pilot.pause()
        assert lines(app)[0] == f"step {5000 - len(app.view)}"


def test_nothing_in_a_log_drives_the_terminal() -> None:
    hostile = "a\x1b]52;c;aGk=\x07b\x9b31mc\u202ed\u200be\tf"
    safe = harmless(hostile)
    assert safe == "a·]52;c;aGk=·b·31mc·d·e    f"
    assert safe.isprintable()
    assert len(harmless("x" * 100_000)) == 4000
