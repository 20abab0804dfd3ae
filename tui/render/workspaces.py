"""Workspaces as rows. One rule: the row says what the workspace does, not only what state it is in."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.machines import Machine
from core.domain.operations import Operation
from core.domain.readings import MachineReading
from core.domain.workspaces import Workspace
from tui.render import machines as machine_rows
from tui.render.cells import UNICODE, Cell, Glyphs, age, ago, bar, duration, percent, plain, price, share, stale

WORKSPACE, STATE, MACHINE, GPUS, UTIL, STEP, LOSS, PRICE, UP, ENDS, NOTE = range(11)


class Badge(NamedTuple):
    glyph: str
    word: str
    role: str


def badge(workspace: Workspace, g: Glyphs = UNICODE) -> Badge:
    return {
        "renting": Badge(g.boot, "renting", "boot"),
        "running": Badge(g.run, "run", "run"),
        "suspect": Badge(g.risk, "SUSPECT", "risk"),
        "retiring": Badge(g.ending, "retiring", "warn"),
        "retired": Badge(g.dead, "retired", "dead"),
        "failed": Badge(g.dead, "FAILED", "bad"),
    }[workspace.state]


RANK = {"suspect": 0, "failed": 1, "renting": 2, "retiring": 2, "running": 3, "retired": 9}


def rank(workspace: Workspace) -> int:
    """Risk first, then what changes, then what runs, then what is over."""
    return RANK.get(workspace.state, 9)


class Row(NamedTuple):
    """Everything one row is made of."""

    workspace: Workspace
    machine: Machine | None
    reading: MachineReading | None
    operation: Operation | None


def cells(row: Row, now: float, g: Glyphs = UNICODE) -> list[Cell]:
    """In the order WORKSPACE … NOTE."""
    workspace, machine, reading = row.workspace, row.machine, row.reading
    mark = badge(workspace, g)
    old = reading is None or stale(now - reading.at, machine_rows.READING_PERIOD_S)
    quiet = "muted" if old else ""
    util = machine_rows.utilization(reading)
    progress = reading.progress if reading else None
    step = g.dash if progress is None else f"{progress.step:,}"
    loss = g.dash if progress is None or progress.loss is None else f"{progress.loss:.4g}"
    spec = workspace.spec
    gpus = machine_rows.gpus_text(machine.gpu_count, machine.gpu, g) if machine else _wanted(spec.count, spec.gpu, g)
    ends = None if machine is None or machine.expires_at is None else machine.expires_at - now
    return [
        Cell(f"{mark.glyph} {plain(workspace.name, g)}", mark.role),
        Cell(mark.word, mark.role),
        Cell(plain(machine.id, g) if machine else g.dash, "muted"),
        Cell(gpus, "" if machine else "muted"),
        Cell(bar(share(util, 100), machine_rows.BAR_WIDTH, g) + f"{percent(util, g):>4}", quiet or "run"),
        Cell(step, quiet),
        Cell(loss, quiet),
        Cell(
            price(machine.burn_usd_per_hour if machine else None, g), "money" if machine and machine.bills else "muted"
        ),
        Cell(age(machine_rows.uptime_s(machine, now) if machine else None, g), "muted"),
        Cell(age(ends, g), "warn" if ends is not None and ends < 900 else "muted"),
        Cell(*note(row, now, g)),
    ]


def _wanted(count: int, gpu: str | None, g: Glyphs) -> str:
    return machine_rows.gpus_text(count, gpu or "any GPU", g)


def note(row: Row, now: float, g: Glyphs = UNICODE) -> tuple[str, str]:
    """Why it is not simply running, and for how long; empty when it is."""
    workspace, operation = row.workspace, row.operation
    since = duration(now - workspace.state_since, g)
    if workspace.state in ("renting", "retiring"):
        running = [step.name for step in operation.steps if step.state == "running"] if operation else []
        doing = running[-1].replace("_", " ") if running else workspace.state
        return plain(f"{doing}, {since}", g), "boot"
    if workspace.state in ("suspect", "failed"):
        return plain(workspace.reason or "no reason known", g), "bad"
    if workspace.state == "retired":
        return f"{ago(now - workspace.state_since, g)}", "muted"
    reading = row.reading
    if reading is None:
        return "no reading yet", "muted"
    if stale(now - reading.at, machine_rows.READING_PERIOD_S):
        return f"last reading {ago(now - reading.at, g)}", "warn"
    return (plain(reading.problem, g), "warn") if reading.problem else ("", "")


def as_text(row: Row, now: float) -> str:
    where = row.machine.id if row.machine else "no machine"
    return f"{row.workspace.name} {badge(row.workspace).word} on {where} {note(row, now)[0]}".rstrip()
