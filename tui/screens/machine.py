"""One machine: its GPUs, processes, last minute and log. One rule: what is old is grey and says how old it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from core.domain import api
from core.domain.errors import UnderstudyError
from core.domain.machines import GONE, Machine
from core.domain.readings import MachineReading, ProcessReading, point
from tui.actions import MACHINES
from tui.bindings import bindings
from tui.model import HISTORY_S
from tui.render import machines as render
from tui.render.cells import Cell, Line, age, plain, stale
from tui.screens.confirm import Text
from tui.screens.curves import mode
from tui.screens.log import LogPane
from tui.screens.panes import Table
from tui.screens.row import RowPanel, Target
from tui.screens.rows import Rows
from tui.widgets.columns import Column
from tui.widgets.logview import log_line
from tui.widgets.plot import Plot, Series

PROCESS_COLUMNS = (
    Column("pid", "PID", 7, ">"),
    Column("gpu", "GPU", 3, ">"),
    Column("vram", "GPU GiB", 7, ">"),
    Column("cpu", "CPU %", 5, ">"),
    Column("mem", "GiB", 5, ">", priority=1),
    Column("name", "PROCESS", 14, flex=1),
)
LOG_LINES = 200
LOG_EVERY_S = 1.0
BOOTING = ("asked", "booting", "checking")


class MachineScreen(RowPanel):
    """One machine, opened from a row."""

    scene = "machine"
    tab = "machines"
    topics = frozenset({"machines", "readings", "connection", "workspaces"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(MACHINES)

    CSS = """
    MachineScreen #headline { height: 1; }
    MachineScreen #upper { height: 3fr; }
    MachineScreen #left { width: 3fr; }
    MachineScreen #right { width: 2fr; }
    MachineScreen.-narrow #right { display: none; }
    MachineScreen #gpus { height: auto; max-height: 60%; }
    MachineScreen #processes { height: 1fr; min-height: 4; }
    MachineScreen #minute { height: 1fr; }
    MachineScreen #lower { height: 2fr; min-height: 4; }
    MachineScreen #log { width: 3fr; }
    MachineScreen #facts { width: 2fr; height: 100%; padding: 0 1; }
    MachineScreen.-narrow #facts { display: none; }
    """

    def __init__(self, machine: str, *, log: bool = False) -> None:
        super().__init__()
        self.machine_id = machine
        self._log_first = log
        self._log_lines: list[str] = []
        self._log_problem = ""
        self._log_path: str | None = None
        self._processes = Rows(lambda key: key, self._process)
        self._by_pid: dict[str, ProcessReading] = {}

    def body(self) -> ComposeResult:
        yield Text([], id="headline")
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                gpus = Text([], id="gpus")
                gpus.add_class("pane")
                yield gpus
                table = Table(PROCESS_COLUMNS, self._processes, ascii_only=self.console.ascii_only, id="processes")
                table.add_class("pane")
                yield table
            with Vertical(id="right"):
                plot = Plot(
                    mode=mode(self.console.ascii_only),
                    low=0.0,
                    high=100.0,
                    figure=_whole,
                    x_figure=_seconds,
                    id="minute",
                )
                plot.add_class("pane")
                plot.border_title = "last minute, %"
                yield plot
        with Horizontal(id="lower"):
            yield LogPane(clock=self.console.clock.now, id="log", classes="pane")
            facts = Text([], id="facts")
            facts.add_class("pane")
            facts.border_title = "machine"
            yield facts

    def on_mount(self) -> None:
        super().on_mount()
        self.model.watched.add(self.machine_id)
        self.query_one("#log" if self._log_first else "#processes").focus()
        self.set_interval(LOG_EVERY_S, self.fetch_log)
        self.fetch_log()

    def on_unmount(self) -> None:
        self.model.watched.discard(self.machine_id)

    @property
    def machine(self) -> Machine | None:
        return self.model.state.machines.get(self.machine_id)

    # -- painting ------------------------------------------------------------------------------------------------------

    def changed(self, topics: frozenset[str]) -> None:
        del topics
        self.paint()

    def changed_slowly(self, topics: frozenset[str]) -> None:
        del topics
        self.query_one("#minute", Plot).show(self.curves())

    def tick(self) -> None:
        self.paint()

    def paint(self) -> None:
        """Everything but the curves and the log."""
        machine, g, now = self.machine, self.glyphs, self.now
        if machine is None:
            self.query_one("#headline", Text).show(
                self.instead("this machine", empty="This machine is unknown.", next_step="esc goes back")
            )
            return
        reading = self.model.readings.get(machine.id) if machine.state not in GONE else None
        self.query_one("#headline", Text).show([[(" ", ""), *render.headline(machine, now, g)]])
        self.query_one("#facts", Text).show(render.facts_lines(machine, now, g))
        self._paint_gpus(machine, reading)
        self._paint_processes(reading)

    def _paint_gpus(self, machine: Machine, reading: MachineReading | None) -> None:
        pane, g, now = self.query_one("#gpus", Text), self.glyphs, self.now
        if reading is None or not reading.gpus:
            said = render.job(machine, reading, now, g)
            pane.border_title = "GPUs"
            pane.show([[(" ", ""), said]])
            return
        seen = now - reading.at
        old = stale(seen, render.READING_PERIOD_S)
        source = f", {plain(reading.source, g)}" if reading.source else ""
        pane.border_title = f"GPUs{source}" + (f", {age(seen, g)} old" if old else "")
        lines: list[Line] = [render.gpu_line(gpu, max(20, pane.size.width), old, g) for gpu in reading.gpus]
        if reading.problem:
            lines.append([(plain(f" {g.risk} {reading.problem}", g), "warn")])
        pane.show([*lines, render.host_line(reading, g)])

    def _paint_processes(self, reading: MachineReading | None) -> None:
        table = self.query_one("#processes", Table)
        processes = reading.processes if reading else []
        ordered = sorted(processes, key=lambda p: (-(p.gpu_memory_mib or 0.0), -(p.cpu_pct or 0.0), p.pid))
        self._by_pid = {f"{p.pid}/{p.gpu_index}": p for p in ordered}
        moved = self._processes.put(list(self._by_pid), frozen=table.frozen)
        table.border_title = f"processes, {len(ordered)}"
        table.placeholder = [[("no process is reported", "muted")]]
        table.data_changed(reordered=moved)
        table.refresh()

    def _process(self, key: str) -> Sequence[Cell]:
        return render.process_cells(self._by_pid[key], self.glyphs)

    def curves(self) -> list[Series]:
        """Utilisation, memory and power of the last minute, each in percent of what there is."""
        points = [(point(r), r) for r in self.model.recent.get(self.machine_id, ())]
        now = self.now
        points = [(p, r) for p, r in points if p.at > now - HISTORY_S]
        xs = [p.at - now for p, _ in points]
        return [
            Series("util", xs, [p.utilization_pct for p, _ in points], "plot-1"),
            Series("memory", xs, [_pct(*render.memory_mib(r)) for _, r in points], "plot-2"),
            Series("power", xs, [_pct(p.power_w, _limit(r)) for p, r in points], "plot-3"),
        ]

    # -- the log -------------------------------------------------------------------------------------------------------

    def fetch_log(self) -> None:
        """Ask for the log once a second while this is in front."""
        if self.is_current and self.machine is not None and self.console.paused_since is None:
            self.run_worker(self._fetch_log(), group="log", exclusive=True)

    async def _fetch_log(self) -> None:
        machine, engine = self.machine, self.console.engine
        if machine is None:
            return
        booting = machine.state in BOOTING
        try:
            log = await (engine.provider_log if booting else engine.machine_log)(machine.id, lines=LOG_LINES)
        except UnderstudyError as error:
            self._log_problem = f"{error} {error.hint}".strip()
            self._title_log(booting)
            return
        self._log_problem = ""
        self._take_log(log)
        self._title_log(booting)

    def _take_log(self, log: api.MachineLog) -> None:
        """Append what is new; start over when the tail does not continue what is shown."""
        view = self.query_one("#log", LogPane)
        new = continuation(self._log_lines, log.lines) if log.path == self._log_path else None
        if new is None:
            view.clear()
            new = log.lines
        self._log_lines, self._log_path = log.lines, log.path
        g = self.glyphs
        view.append(log_line([(plain(line, g), "")], log.at) for line in new)

    def _title_log(self, booting: bool) -> None:
        view = self.query_one("#log", LogPane)
        whose = "what the provider says" if booting else plain(self._log_path or "log", self.glyphs)
        view.border_title = whose
        view.border_subtitle = "" if view.following else "held, G follows"
        said = self._log_problem or ("the provider has said nothing yet" if booting else "no log in the workspace yet")
        view.placeholder = [[(said, "warn" if self._log_problem else "muted")]]
        if self._log_problem and len(view):
            view.border_subtitle = plain(self._log_problem, self.glyphs)
        view.refresh()

    def apply_filter(self, text: str) -> None:
        """Mark the text in the log; `n` and `N` go from one to the next."""
        view = self.query_one("#log", LogPane)
        found = view.search(text)
        self.count_filter(found, len(view))

    def action_logs(self, name: str = "") -> None:
        del name
        self.query_one("#log").focus()

    # -- the row -------------------------------------------------------------------------------------------------------

    def targets(self) -> list[Target]:
        machine = self.machine
        if machine is None:
            return []
        workspace = self.model.state.workspaces.get(machine.workspace or "")
        primary = workspace is not None and workspace.primary == machine.id
        return [Target(workspace=machine.workspace if primary else None, machine=machine.id)]

    def row_text(self) -> str:
        return "" if self.machine is None else render.as_text(self.machine, self.now)

    def row_json(self) -> str:
        return "" if self.machine is None else msgspec.json.encode(self.machine).decode()


def continuation(before: Sequence[str], now: Sequence[str]) -> list[str] | None:
    """The lines of `now` after those that `before` ends with; None when they do not overlap."""
    if not before:
        return list(now)
    for start in range(len(before)):
        tail = list(before[start:])
        if list(now[: len(tail)]) == tail:
            return list(now[len(tail) :])
    return None


def _pct(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else min(100.0, 100.0 * part / whole)


def _limit(reading: MachineReading) -> float | None:
    limits = [gpu.power_limit_w for gpu in reading.gpus]
    return sum(limit for limit in limits if limit) if limits and all(limits) else None


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _seconds(value: float) -> str:
    return "now" if value > -0.5 else f"{value:.0f} s"
