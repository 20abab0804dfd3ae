"""The table: what a key costs, what the cursor follows, what fits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from textual.app import App, ComposeResult

from tui.widgets.columns import CellLike, Column, fit
from tui.widgets.vtable import FREEZE_S, VTable

COLUMNS = [
    Column("name", "NAME", 10),
    Column("util", "UTIL", 5, ">"),
    Column("zone", "ZONE", 8, priority=2),
    Column("job", "JOB", 6, flex=1),
]


class Rows:
    """A source that counts what is asked of it."""

    def __init__(self, count: int) -> None:
        self.names = [f"gpu-{index:05d}" for index in range(count)]
        self.versions = dict.fromkeys(self.names, 0)
        self.asked = 0

    def __len__(self) -> int:
        return len(self.names)

    def row_key(self, index: int) -> Hashable:
        return self.names[index]

    def stamp(self, index: int) -> Hashable:
        return self.versions[self.names[index]]

    def cells(self, index: int) -> Sequence[CellLike]:
        self.asked += 1
        name = self.names[index]
        return ((name, "", ""), (str(self.versions[name]), "good", ""), ("us-tx", "muted", ""), ("東京-run", "", ""))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bare(App[None]):
    def __init__(self, rows: Rows, clock: Clock | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.table = VTable(COLUMNS, rows, clock=clock or Clock())

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.focus()


def lines(app: App[None]) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


async def test_shows_rows_aligned_and_cut_to_cells() -> None:
    app = Bare(Rows(3))
    async with app.run_test(size=(40, 6)) as pilot:
        await pilot.pause()
        assert lines(app)[:4] == [
            " NAME        UTIL ZONE     JOB",
            " gpu-00000      0 us-tx    東京-run",
            " gpu-00001      0 us-tx    東京-run",
            " gpu-00002      0 us-tx    東京-run",
        ]


async def test_a_cursor_move_builds_two_lines_and_asks_for_two_rows() -> None:
    app = Bare(Rows(10_000))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for _ in range(10):
            built, asked = app.table.paint_lines, app.rows.asked
            app.table.action_move(1)
            await pilot.pause()
            assert app.table.paint_lines - built <= 2
            assert app.rows.asked - asked <= 2


async def test_an_unchanged_row_costs_nothing() -> None:
    app = Bare(Rows(1000))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        built = app.table.paint_lines
        for name in app.rows.names[:3] + app.rows.names[500:]:
            app.rows.versions[name] += 1
        app.table.data_changed()
        await pilot.pause()
        assert app.table.paint_lines - built == 3


async def test_a_step_over_the_edge_jumps_half_a_page() -> None:
    app = Bare(Rows(100))
    async with app.run_test(size=(60, 22)) as pilot:
        await pilot.pause()
        app.table.action_page(1)
        app.table.action_move(1)
        await pilot.pause()
        window = range(app.table.scroll_offset.y, app.table.scroll_offset.y + 21)
        assert app.table.cursor in window
        app.table.action_move(1)
        assert app.table.scroll_offset.y in (0, 11)


async def test_the_cursor_and_the_marks_stay_on_their_rows_when_the_order_changes() -> None:
    app = Bare(Rows(50))
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        app.table.move_to_key("gpu-00004")
        app.table.action_mark()
        app.table.move_to_key("gpu-00004")
        app.rows.names.reverse()
        app.table.data_changed(reordered=True)
        await pilot.pause()
        assert app.table.cursor_key == "gpu-00004"
        assert app.table.cursor == 45
        assert app.table.chosen() == ["gpu-00004"]
        assert any(line.startswith("▌gpu-00004") for line in lines(app))


async def test_rows_that_go_leave_no_ghost() -> None:
    app = Bare(Rows(10))
    async with app.run_test(size=(60, 14)) as pilot:
        await pilot.pause()
        app.table.action_edge(True)
        app.rows.names = app.rows.names[:3]
        app.table.data_changed(reordered=True)
        await pilot.pause()
        assert app.table.cursor_key == "gpu-00002"
        assert lines(app)[4:13] == [""] * 9


async def test_an_empty_table_says_why_and_takes_its_first_rows() -> None:
    app = Bare(Rows(0))
    app.table.placeholder = [[("no machines", "muted")], [("r rents one", "")]]
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert "no machines" in "\n".join(lines(app))
        assert app.table.cursor_key is None
        app.table.action_open()
        app.table.action_mark()
        app.rows.names.append("gpu-1")
        app.rows.versions["gpu-1"] = 0
        app.table.data_changed(reordered=True)
        await pilot.pause()
        assert app.table.cursor_key == "gpu-1"
        assert "no machines" not in "\n".join(lines(app))


async def test_the_order_is_frozen_for_a_second_after_a_key() -> None:
    clock = Clock()
    app = Bare(Rows(5), clock)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert not app.table.frozen
        app.table.action_move(1)
        assert app.table.frozen
        clock.now += FREEZE_S
        assert not app.table.frozen


async def test_wide_shows_every_column_and_goes_sideways() -> None:
    app = Bare(Rows(3))
    async with app.run_test(size=(28, 8)) as pilot:
        await pilot.pause()
        assert "ZONE" not in lines(app)[0]
        app.table.action_wide()
        await pilot.pause()
        assert "ZONE" in lines(app)[0]
        app.table.action_sideways(1)
        await pilot.pause()
        assert "NAME" not in lines(app)[0]
        assert "JOB" in lines(app)[0]


async def test_sort_is_asked_for_and_shown() -> None:
    asked: list[tuple[str, bool]] = []

    class Sorting(Bare):
        def on_vtable_sorted(self, message: VTable.Sorted) -> None:
            asked.append((message.column, message.descending))
            self.table.show_sort(message.column, message.descending)

    app = Sorting(Rows(3))
    async with app.run_test(size=(60, 8)) as pilot:
        await pilot.pause()
        app.table.action_sort_next()
        await pilot.pause()
        app.table.action_sort_reverse()
        await pilot.pause()
        assert asked == [("name", False), ("name", True)]
        assert "NAME↓" in lines(app)[0]
        await pilot.click(VTable, offset=(14, 0))
        await pilot.pause()
        assert asked[-1] == ("util", False)


def test_the_least_important_columns_go_first_and_the_rest_share_the_room() -> None:
    assert [placed.column.key for placed in fit(COLUMNS, 26)] == ["name", "util", "job"]
    assert [placed.width for placed in fit(COLUMNS, 60)] == [10, 5, 8, 33]
    two = [Column("a", "A", 5, flex=1, max_width=8), Column("b", "B", 5, flex=1)]
    assert [placed.width for placed in fit(two, 42)] == [8, 32]
    assert len(fit(COLUMNS, 5, wide=True)) == 4
