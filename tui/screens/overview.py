"""Panel 1: what runs, costs and happens, and the one thing to press next. One rule: it fits on every screen."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from core.domain.machines import GONE
from core.domain.operations import Operation
from tui import filters, subjects
from tui.model import HISTORY_S
from tui.render import events, operations, overview
from tui.render import workspaces as render
from tui.render.cells import Cell, Line, joined, plain, stale
from tui.render.machines import READING_PERIOD_S
from tui.screens.confirm import Text
from tui.screens.keys import key_of
from tui.screens.loss import LossPlot
from tui.screens.machines import fewer, mean_load
from tui.screens.panes import Table
from tui.screens.rent import stages
from tui.screens.row import RowPanel, Target
from tui.screens.rows import Rows
from tui.widgets.columns import Column
from tui.widgets.styles import Painted, Span
from tui.widgets.timeline import Timeline
from tui.widgets.vtable import VTable

COLUMNS = (
    Column("name", "WORKSPACE", 12),
    Column("state", "STATE", 8, priority=1),
    Column("machine", "MACHINE", 10, priority=8, middle=True),
    Column("gpus", "GPUS", 12, priority=5),
    Column("util", "UTIL %", 12),
    Column("step", "STEP", 8, ">", priority=3),
    Column("loss", "LOSS", 7, ">", priority=2),
    Column("price", "$/H", 7, ">"),
    Column("up", "UP", 4, ">", priority=7),
    Column("ends", "ENDS", 4, ">", priority=6),
    Column("note", "", 8, flex=1),
)
GONE_SHOWN_S = 3600.0  # a workspace that ended stays in sight for so long
SPARK_CELLS = 8
EVENTS_SHOWN = 60  # more than a tall window has lines for
CURVE_FROM_ROWS = 22
"""Rows of the window from which something stands beneath the table."""
TABLE_FRAME_ROWS = 3  # its border and its header
TABLE_SHARE = 0.5  # of the rows between the tiles and the hint, at most, while something stands beneath it


class Newest(Painted):
    """The newest facts, the newest at the bottom."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        if lines != self.lines:
            self.lines = lines
            self.refresh()

    def spans(self, y: int, width: int) -> Iterable[Span]:
        del width
        index = y + max(0, len(self.lines) - self.size.height)
        return self.lines[index] if index < len(self.lines) else ()


class Overview(RowPanel):
    """The first thing one sees."""

    scene = "overview"
    topics = frozenset(
        {"workspaces", "machines", "strangers", "operations", "readings", "providers", "budget", "events", "connection"}
    )

    CSS = """
    Overview #tiles { height: 4; }
    Overview #tiles > Text { width: 1fr; height: 4; padding: 0 1; }
    Overview #tiles > #tile-machines, Overview #tiles > #tile-gpu { width: 1.2fr; }
    Overview #strip { display: none; }
    Overview.-low #tiles, Overview.-narrow #tiles { display: none; }
    Overview.-low #strip, Overview.-narrow #strip { display: block; height: 1; }
    Overview #middle { height: 1fr; }
    Overview #left { width: 3fr; }
    Overview #side { width: 2fr; }
    Overview.-narrow #side { display: none; }
    Overview #doing { height: 1fr; display: none; }
    Overview #loss { height: 1fr; display: none; }
    Overview #chosen { height: auto; max-height: 60%; display: none; padding: 0 1; }
    Overview #newest { height: 1fr; min-height: 4; }
    Overview #last { display: none; height: 1; }
    Overview.-narrow #last { display: block; }
    Overview #hint { height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows(self.stamp, self.cells)
        self.filter = filters.EVERYTHING
        self.sort, self.descending = "", False
        self._load: deque[float | None] = deque(maxlen=HISTORY_S)

    def body(self) -> ComposeResult:
        with Horizontal(id="tiles"):
            for name in ("machines", "gpu", "spend", "events"):
                tile = Text([], id=f"tile-{name}")
                tile.add_class("pane")
                tile.border_title = {"gpu": "GPU"}.get(name, name)
                yield tile
        yield Text([], id="strip")
        with Horizontal(id="middle"):
            with Vertical(id="left"):
                table = Table(
                    COLUMNS,
                    self.rows,
                    clock=self.console.clock.monotonic,
                    ascii_only=self.console.ascii_only,
                    id="workspaces",
                )
                table.add_class("pane")
                yield table
                yield LossPlot(ascii_only=self.console.ascii_only, id="loss")
                yield Timeline(ascii_only=self.console.ascii_only, id="doing", classes="pane")
            with Vertical(id="side"):
                chosen = Text([], id="chosen")
                chosen.add_class("pane")
                yield chosen
                newest = Newest(id="newest")
                newest.add_class("pane")
                newest.border_title = "events"
                yield newest
        yield Newest(id="last")
        yield Text([], id="hint")

    @property
    def table(self) -> Table:
        return self.query_one("#workspaces", Table)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def row(self, key: str) -> render.Row | None:
        state = self.model.state
        workspace = state.workspaces.get(key)
        if workspace is None:
            return None
        machine = self.machine_of(Target(workspace=key, machine=workspace.primary))
        reading = self.model.readings.get(machine.id) if machine and machine.state == "ready" else None
        return render.Row(workspace, machine, reading, state.operations.get(workspace.operation or ""))

    def stamp(self, key: str) -> Hashable:
        row, model = self.row(key), self.model
        if row is None:
            return None
        machine = row.machine.id if row.machine else ""
        old = row.reading is None or stale(self.now - row.reading.at, READING_PERIOD_S)
        moving = int(self.now) if old or row.workspace.state != "running" else int(self.now / 60)
        versions = [
            model.version("workspaces", key),
            model.version("machines", machine),
            model.version("readings", machine),
        ]
        return (*versions, model.version("operations", row.workspace.operation or ""), moving)

    def cells(self, key: str) -> Sequence[Cell]:
        row = self.row(key)
        return render.cells(row, self.now, self.glyphs) if row else [Cell("")] * len(COLUMNS)

    def order(self) -> list[str]:
        now = self.now
        ended = ("retired", "failed")
        all_of = self.model.state.workspaces.values()
        shown = [w for w in all_of if w.state not in ended or now - w.state_since < GONE_SHOWN_S]
        if not self.filter.empty:
            shown = [w for w in shown if (row := self.row(w.name)) and self.filter(subjects.workspace(row, now))]
        shown.sort(key=lambda w: (render.rank(w), w.created_at, w.name))
        keys = [w.name for w in shown]
        if self.sort:
            keys.sort(key=self._sort_key, reverse=self.descending)
        return keys

    def _sort_key(self, key: str) -> tuple[bool, float, str]:
        row = self.row(key)
        at = [column.key for column in COLUMNS].index(self.sort)
        text = render.cells(row, self.now, self.glyphs)[at].text if row else ""
        digits = text.replace(",", "").split()
        try:
            return True, float(digits[-1]), ""
        except (ValueError, IndexError):
            return False, 0.0, text

    # -- painting ------------------------------------------------------------------------------------------------------

    def changed(self, topics: frozenset[str]) -> None:
        if topics - {"readings", "events"}:
            self.refill()
            self.paint()
        else:
            self.table.data_changed()
            self.paint_events()

    def changed_slowly(self, topics: frozenset[str]) -> None:
        del topics
        self.paint_curve()

    def tick(self) -> None:
        self.remember_load()
        self.refill()
        self.paint()

    def refill(self, *, force: bool = False) -> None:
        """The table's rows, in their order."""
        moved = self.rows.put(self.order(), frozen=self.table.frozen and not force)
        market, keys = (key_of(self.console.registry, action) for action in ("market", "help"))
        step = f"{market} shows what can be rented, {keys} the keys"
        self.table.placeholder = self.instead("the workspaces", empty="No workspace yet.", next_step=step)
        self.table.data_changed(reordered=moved)
        lab = " (lab)" if self.model.lab else ""
        self.table.border_title = f"workspaces{lab}, {len(self.rows)}"
        self.count_filter(len(self.rows), len(self.model.state.workspaces), self.filter.problem)

    def tiles(self) -> dict[str, list[Line]]:
        """The four tiles' lines."""
        model, g, now = self.model, self.glyphs, self.now
        state = model.state
        running = [m for m in state.machines.values() if m.state not in GONE]
        readings = [model.readings[m.id] for m in running if m.id in model.readings]
        return {
            "machines": overview.machines(running, len(state.strangers), g),
            "gpu": overview.gpu(readings, self.load(), now, g),
            "spend": overview.money_lines(model.spent(now), state.budget, g),
            "events": overview.events(list(model.events), now, g),
        }

    def load(self) -> list[float | None]:
        """Mean utilisation over the fleet in the last minute, in as many values as the tile has glyphs."""
        if not self._load:
            self._load.extend(fleet_load(self.model.loads.values(), HISTORY_S))
        return fewer(list(self._load), HISTORY_S, SPARK_CELLS)

    def remember_load(self) -> None:
        """One value a second: going through every machine's minute each time would cost a large fleet dearly."""
        newest = fleet_load(self.model.loads.values(), 1)
        if self._load and newest:
            self._load.append(newest[0])

    def paint(self) -> None:
        """Tiles, events, hint, and what the chosen workspace is doing."""
        g, now, tiles = self.glyphs, self.now, self.tiles()
        for name, lines in tiles.items():
            self.query_one(f"#tile-{name}", Text).show(lines)
        self.query_one("#strip", Text).show(
            [joined([[(" ", ""), *tiles["machines"][0]], tiles["gpu"][0], tiles["spend"][1]])]
        )
        self.paint_events()
        trouble = overview.provider_line(self.model.state.providers.values(), now, g)
        hint: Line = [(" ", "")]
        for action, words in overview.hint(self.model.state.workspaces.values()):
            hint += [(key_of(self.console.registry, action) + " ", "key bold"), (plain(words, g) + "   ", "muted")]
        self.query_one("#hint", Text).show([hint + trouble])
        self.paint_operation()

    def paint_events(self) -> None:
        """The newest facts beside the table, or the last one under it."""
        facts = list(self.model.events)[-EVENTS_SHOWN:]
        lines = [events.line(fact, self.glyphs) for fact in facts]
        self.query_one("#newest", Newest).show(lines or [[("nothing has happened yet", "muted")]])
        self.query_one("#last", Newest).show([[(" ", ""), *line] for line in lines[-1:]])

    def selected(self) -> str | None:
        key = self.table.cursor_key
        return None if key is None else str(key)

    def operation(self) -> Operation | None:
        """What the chosen workspace is doing now, if it takes steps."""
        workspace = self.model.state.workspaces.get(self.selected() or "")
        operation = self.model.state.operations.get(workspace.operation or "") if workspace else None
        return operation if operation is not None and operation.state == "running" else None

    def paint_operation(self) -> None:
        """What the chosen workspace runs on, and beneath the table its curve, or its steps while it takes some."""
        operation, timeline = self.operation(), self.query_one("#doing", Timeline)
        beneath = self.app.size.height >= CURVE_FROM_ROWS and len(self.rows) > 0
        timeline.display = beneath and operation is not None
        self.query_one(LossPlot).display = beneath and operation is None
        self._fit(beneath)
        if operation is not None:
            timeline.border_title = f"{operation.kind} {operation.workspace or ''}"
            timeline.show(stages(operation, self.now))
        self._paint_chosen()

    def _fit(self, beneath: bool) -> None:
        """The table has the rows it needs, or all of them where nothing stands beneath it."""
        most = max(TABLE_FRAME_ROWS + 2, int(self.query_one("#middle").size.height * TABLE_SHARE))
        rows = min(len(self.rows) + TABLE_FRAME_ROWS, most)
        height = f"{rows}" if beneath else "1fr"
        if str(self.table.styles.height) != height:
            self.table.styles.height = height

    def _paint_chosen(self) -> None:
        pane, name = self.query_one("#chosen", Text), self.selected()
        row = self.row(name) if name else None
        pane.display = row is not None and row.machine is not None
        if row is None or row.machine is None:
            return
        pane.border_title = f"{plain(row.workspace.name, self.glyphs)} on {plain(row.machine.id, self.glyphs)}"
        reading = row.reading if row.machine.state not in GONE else None
        width = self.app.size.width * 2 // 5 - 4  # the side's; its own size is not known before it stands
        pane.show(overview.chosen(row.machine, reading, self.now, width, self.glyphs))

    def paint_curve(self) -> None:
        """The loss of the chosen workspace over its steps."""
        name, plot = self.selected(), self.query_one(LossPlot)
        row = self.row(name) if name and plot.display else None
        if row is not None or not name:
            plot.show_of(name or "", row.machine.id if row and row.machine else None)

    # -- the panel's own -----------------------------------------------------------------------------------------------

    def apply_filter(self, text: str) -> None:
        self.filter = filters.parse(text, filters.WORKSPACES)
        self.refill(force=True)

    @on(VTable.Sorted)
    def sorted(self, message: VTable.Sorted) -> None:
        self.sort, self.descending = message.column, message.descending
        self.table.show_sort(self.sort, self.descending)
        self.refill(force=True)

    @on(VTable.Highlighted)
    def highlighted(self) -> None:
        self.paint_operation()
        self.paint_curve()

    @on(VTable.Opened)
    def opened(self, message: VTable.Opened) -> None:
        row = self.row(str(message.key))
        if row is None or row.machine is None:
            self.console.say(f"{message.key} has no machine to open.", "warning")
            return
        from tui.screens.machine import MachineScreen

        self.app.push_screen(MachineScreen(row.machine.id))

    def targets(self) -> list[Target]:
        if not self.is_mounted:
            return []
        workspaces = self.model.state.workspaces
        keys = [str(key) for key in self.table.chosen()]
        return [Target(workspace=key, machine=workspaces[key].primary) for key in keys if key in workspaces]

    def row_text(self) -> str:
        operation = self.operation()
        if operation is not None and not self.table.marks:
            return operations.as_text(operation, self.now)
        rows = [self.row(one.workspace or "") for one in self.targets()]
        return "\n".join(render.as_text(row, self.now) for row in rows if row)

    def row_json(self) -> str:
        workspaces = self.model.state.workspaces
        return "\n".join(msgspec.json.encode(workspaces[one.workspace or ""]).decode() for one in self.targets())


def fleet_load(loads: Iterable[Sequence[bytes]], most: int) -> list[float | None]:
    """Mean utilisation over machines for each of the last `most` seconds, newest last; None where none was reported."""
    columns: list[list[float]] = []
    for samples in loads:
        for back in range(min(most, len(samples))):
            if back == len(columns):
                columns.append([])
            value = mean_load(samples[-1 - back])
            if value is not None:
                columns[back].append(value)
    return [sum(column) / len(column) if column else None for column in reversed(columns)]
