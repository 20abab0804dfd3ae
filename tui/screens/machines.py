"""Panel 4: the fleet, live. One rule: what can be lost stands first, and a stranger is shown but never touched."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from core.domain.machines import GONE, Machine
from tui import filters, subjects
from tui.actions import MACHINES
from tui.bindings import bindings
from tui.model import UNKNOWN
from tui.render import machines as render
from tui.render.cells import Cell, stale
from tui.screens.keys import key_of
from tui.screens.panes import Table
from tui.screens.row import RowPanel, Target
from tui.screens.rows import Rows
from tui.widgets.columns import Column
from tui.widgets.vtable import VTable

COLUMNS = (
    Column("name", "NAME", 12, middle=True),
    Column("state", "STATE", 10, priority=2),
    Column("from", "FROM", 6, priority=5),
    Column("zone", "ZONE", 11, priority=8),
    Column("gpus", "GPUS", 12, priority=6),
    Column("util", "UTIL %", 12),
    Column("spark", "60 S", 10, priority=7, sortable=False),
    Column("mem", "MEM GiB", 8, ">", priority=3),
    Column("temp", "°C", 3, ">"),
    Column("watt", "W", 5, ">", priority=9),
    Column("price", "$/H", 7, ">"),
    Column("up", "UP", 4, ">", priority=10),
    Column("job", "JOB", 18, flex=1),
)
GONE_SHOWN_S = 600.0  # a machine that ended stays in sight for so long, with its cost
SPARK_SAMPLES = 60


class Machines(RowPanel):
    """The fleet."""

    scene = "machines"
    topics = frozenset({"machines", "strangers", "readings", "connection", "workspaces"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(MACHINES)

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows(self.stamp, self.cells)
        self.filter = filters.EVERYTHING
        self.sort, self.descending = "", False

    def body(self) -> ComposeResult:
        table = Table(
            columns_for(self.console.ascii_only),
            self.rows,
            clock=self.console.clock.monotonic,
            ascii_only=self.console.ascii_only,
            id="fleet",
        )
        table.add_class("pane")
        yield table

    @property
    def table(self) -> Table:
        return self.query_one("#fleet", Table)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def stamp(self, key: str) -> Hashable:
        model, machine = self.model, self.model.state.machines.get(key)
        if machine is None:
            return model.version("strangers", key)
        reading = model.readings.get(key)
        old = reading is None or stale(self.now - reading.at, render.READING_PERIOD_S)
        moving = int(self.now) if old or machine.state != "ready" else int(self.now / 60)
        return model.version("machines", key), model.version("readings", key), moving

    def cells(self, key: str) -> Sequence[Cell]:
        state = self.model.state
        machine = state.machines.get(key)
        if machine is not None:
            return render.cells(machine, self.model.readings.get(key), self.load(key), self.now, self.glyphs)
        stranger = state.strangers.get(key)
        return render.stranger_cells(stranger, self.glyphs) if stranger else [Cell("")] * len(COLUMNS)

    def load(self, key: str) -> list[float | None]:
        """Mean utilisation of the last minute in as many values as the curve has glyphs."""
        samples = list(self.model.loads.get(key, ()))
        values = [mean_load(sample) for sample in samples]
        return fewer(values, SPARK_SAMPLES, render.SPARK_WIDTH)

    def order(self) -> list[str]:
        """The machines that match, in the order chosen; strangers last."""
        state, now = self.model.state, self.now
        shown = [m for m in state.machines.values() if m.state not in GONE or now - m.state_since < GONE_SHOWN_S]
        if not self.filter.empty:
            readings = self.model.readings
            shown = [m for m in shown if self.filter(subjects.machine(m, readings.get(m.id), now))]
        shown.sort(key=lambda m: (render.rank(m), m.rented_at or m.asked_at or 0.0, m.id))
        if self.sort:
            shown.sort(key=self._sort_key, reverse=self.descending)
        strangers = [k for k, s in state.strangers.items() if self.filter.empty or self.filter(subjects.stranger(s))]
        return [m.id for m in shown] + sorted(strangers)

    def _sort_key(self, machine: Machine) -> tuple[bool, float, str]:
        return _SORTS[self.sort](machine, self)

    def refill(self, *, force: bool = False) -> None:
        """Decide the order anew, unless the operator is moving in it."""
        moved = self.rows.put(self.order(), frozen=self.table.frozen and not force)
        self.table.placeholder = self.instead(
            "its machines",
            empty="No machine is rented.",
            next_step=f"{key_of(self.console.registry, 'market')} shows what can be rented",
        )
        self.table.data_changed(reordered=moved)
        self._title()

    def _title(self) -> None:
        state = self.model.state
        live = sum(m.state not in GONE for m in state.machines.values())
        by = f" · by {self.sort} {'↓' if self.descending else '↑'}" if self.sort else ""
        strange = f" · {len(state.strangers)} not ours" if state.strangers else ""
        lab = " · lab" if self.model.lab else ""
        title = f"machines{lab} · {live}{by}{strange}"
        self.table.border_title = (
            title if not self.console.ascii_only else title.replace("·", "-").replace("↓", "v").replace("↑", "^")
        )
        total = len(state.machines) + len(state.strangers)
        self.count_filter(len(self.rows), total, self.filter.problem)

    # -- the panel's own -----------------------------------------------------------------------------------------------

    def changed(self, topics: frozenset[str]) -> None:
        if topics & {"machines", "strangers", "connection", "workspaces"}:
            self.refill()
        else:
            self.table.data_changed()

    def tick(self) -> None:
        self.refill()

    def apply_filter(self, text: str) -> None:
        self.filter = filters.parse(text, filters.MACHINES)
        self.refill(force=True)

    @on(VTable.Sorted)
    def sorted(self, message: VTable.Sorted) -> None:
        self.sort, self.descending = message.column, message.descending
        self.table.show_sort(self.sort, self.descending)
        self.refill(force=True)

    @on(VTable.Opened)
    def opened(self, message: VTable.Opened) -> None:
        key = str(message.key)
        if key not in self.model.state.machines:
            self.console.say("This machine is not ours; adopt it first to look inside.", "warning")
            return
        from tui.screens.machine import MachineScreen

        self.app.push_screen(MachineScreen(key))

    def targets(self) -> list[Target]:
        if not self.is_mounted:
            return []
        state = self.model.state
        out = []
        for key in map(str, self.table.chosen()):
            machine = state.machines.get(key)
            if machine is not None:
                alone = machine.workspace is None or state.workspaces.get(machine.workspace) is None
                primary = not alone and state.workspaces[machine.workspace or ""].primary == key
                out.append(Target(workspace=machine.workspace if primary else None, machine=key))
            elif key in state.strangers:
                out.append(Target(stranger=key))
        return out

    def row_text(self) -> str:
        machines = self.model.state.machines
        return "\n".join(
            render.as_text(machines[key], self.now) for key in map(str, self.table.chosen()) if key in machines
        )

    def row_json(self) -> str:
        machines = self.model.state.machines
        chosen = [machines[key] for key in map(str, self.table.chosen()) if key in machines]
        return "\n".join(msgspec.json.encode(machine).decode() for machine in chosen)


def columns_for(ascii_only: bool) -> list[Column]:
    """The columns, with a header that the character set can say."""
    return [c._replace(label="C") if ascii_only and c.key == "temp" else c for c in COLUMNS]


def mean_load(sample: bytes) -> float | None:
    """Mean of the utilisation of a machine's GPUs, percent; None where no driver said it."""
    if UNKNOWN in sample:
        sample = bytes(value for value in sample if value != UNKNOWN)
    return sum(sample) / len(sample) if sample else None


def fewer(values: Sequence[float | None], span: int, count: int) -> list[float | None]:
    """The last `span` values as at most `count` means, newest last."""
    each = max(1, span // count)
    recent = list(values[-span:])
    out: list[float | None] = []
    for end in range(len(recent), 0, -each):
        known = [v for v in recent[max(0, end - each) : end] if v is not None]
        out.append(sum(known) / len(known) if known else None)
    return out[::-1]


def _low(value: float | None) -> tuple[bool, float, str]:
    return value is not None, value or 0.0, ""


_SORTS: dict[str, Callable[[Machine, Machines], tuple[bool, float, str]]] = {
    "name": lambda m, _: (True, 0.0, m.id),
    "state": lambda m, _: (True, render.rank(m), ""),
    "from": lambda m, _: (True, 0.0, m.provider),
    "zone": lambda m, _: (True, 0.0, render.place(m.region, m.country)),
    "gpus": lambda m, _: (True, m.gpu_count, m.gpu),
    "util": lambda m, p: _low(render.utilization(p.model.readings.get(m.id))),
    "mem": lambda m, p: _low(render.memory_mib(p.model.readings.get(m.id))[0]),
    "temp": lambda m, p: _low(render.hottest_c(p.model.readings.get(m.id))),
    "watt": lambda m, p: _low(render.watts(p.model.readings.get(m.id))),
    "price": lambda m, _: (True, m.burn_usd_per_hour, ""),
    "up": lambda m, p: _low(render.uptime_s(m, p.now)),
    "job": lambda m, _: (True, 0.0, m.workspace or ""),
}
