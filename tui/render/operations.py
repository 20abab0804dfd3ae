"""Operations as timelines. One rule: a step shows what it took or since when it runs; a spinner has no place here."""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.operations import Operation, Step
from tui.render.cells import UNICODE, Glyphs, Line, duration, plain

RowState = Literal["waiting", "running", "done", "failed"]


class TimelineRow(NamedTuple):
    """One line of a timeline. `offset_s` is from the operation's start; None for a step that has not begun."""

    name: str
    state: RowState
    offset_s: float | None
    took_s: float | None
    detail: str
    attempt: int = 1


def label(step: str) -> str:
    """The step's name as words."""
    return step.replace("_", " ")


# the steps of a smooth operation in order, by its kind; the names are those of core.operations
EXPECTED: dict[str, tuple[str, ...]] = {
    "rent": (
        "choose an offer",
        "ask for it",
        "boot",
        "reach it by SSH",
        "start the agent",
        "check it against its offer",
        "ready",
    ),
    "retire": ("ask to destroy", "first listing without it", "close"),
}


def rows(operation: Operation, now: float) -> list[TimelineRow]:
    """The steps that began, in order, then those still to come; a step that ran again says so."""
    seen = [_row(operation, step, now) for step in operation.steps]
    if operation.state != "running":
        return seen
    return seen + [TimelineRow(label(name), "waiting", None, None, "") for name in _to_come(operation)]


def _to_come(operation: Operation) -> tuple[str, ...]:
    """What follows the last step that began; after one that leads back, everything from the start."""
    expected = EXPECTED.get(operation.kind, ())
    last = operation.steps[-1].name if operation.steps else ""
    return expected[expected.index(last) + 1 :] if last in expected else expected


def _row(operation: Operation, step: Step, now: float) -> TimelineRow:
    running = step.state == "running"
    # an operation that ended cannot have a step still running: it was cut off with it
    state: RowState = "failed" if running and operation.state != "running" else step.state
    end = operation.ended_at if operation.ended_at is not None else now
    took = step.took_s if step.took_s is not None else max(0.0, end - step.started_at)
    offset = max(0.0, step.started_at - operation.started_at)
    return TimelineRow(label(step.name), state, offset, took, step.detail, step.attempt)


def headline(operation: Operation, now: float, g: Glyphs = UNICODE) -> Line:
    """`rent tts · running 00:21 · asked by ops`."""
    took = (operation.ended_at or now) - operation.started_at
    role = {"running": "boot", "done": "good", "failed": "bad", "cancelled": "muted"}[operation.state]
    glyph = {"running": g.boot, "done": g.run, "failed": g.dead, "cancelled": g.stby}[operation.state]
    what = " ".join(part for part in (operation.kind.replace("_", " "), operation.workspace or "") if part)
    line: Line = [(f"{glyph} {operation.state}", role), (f"  {what}", "title"), (f"  {duration(took, g)}", "")]
    if operation.actor:
        line.append((f"  by {plain(operation.actor, g)}", "muted"))
    return line


def as_text(operation: Operation, now: float) -> str:
    """The timeline as plain text, for `y`: what one pastes into a report."""
    lines = [f"{operation.kind} {operation.workspace or ''} {operation.state} ({operation.id})".replace("  ", " ")]
    for row in rows(operation, now):
        offset = "" if row.offset_s is None else f"+{row.offset_s:.1f}s"
        took = "" if row.took_s is None else f"{row.took_s:.1f}s"
        again = f" (attempt {row.attempt})" if row.attempt > 1 else ""
        lines.append(f"{offset:>8} {took:>8}  {row.state:<7} {row.name}{again}  {row.detail}".rstrip())
    if operation.reason:
        lines.append(f"reason: {operation.reason}")
    return "\n".join(lines)
