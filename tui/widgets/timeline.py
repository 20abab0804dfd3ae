"""Steps in time, each bar at its true place. Its one rule: the picture after the fact is the account of what happened.

A stage has a name, a state, a start and a length in seconds, and a sentence. Where there is no room the sentence goes
first; name, bar and seconds stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tui.widgets.styles import Painted, Span
from tui.widgets.text import clip, pad, width_of

StageState = Literal["waiting", "running", "done", "failed"]
ROLES: dict[StageState, str] = {"waiting": "muted", "running": "boot", "done": "good", "failed": "bad"}
DETAIL_FROM = 90
"""Cells from which the sentences are shown beside the bars."""


@dataclass(frozen=True)
class Stage:
    """One step: ``start_s`` after the first one's start; ``took_s`` so far; None for one that has not begun."""

    name: str
    state: StageState
    start_s: float | None = None
    took_s: float | None = None
    detail: str = ""
    attempt: int = 1


def seconds(took_s: float | None) -> str:
    """A length of time in at most seven cells."""
    if took_s is None:
        return ""
    if took_s < 100:
        return f"{took_s:.1f} s"
    return f"{int(took_s) // 60}m{int(took_s) % 60:02d}s"


class Timeline(Painted):
    """Stages under each other on one scale of time."""

    DEFAULT_CSS = "Timeline { height: auto; }"

    def __init__(self, *, ascii_only: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.ascii_only = ascii_only
        self._stages: tuple[Stage, ...] = ()

    def show(self, stages: Sequence[Stage]) -> None:
        """Show these stages."""
        now, before = tuple(stages), self._stages
        if now != before:
            self._stages = now
            self.refresh(layout=self._height(now) != self._height(before))

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A row a stage, and one for the reason of each that failed."""
        del container, viewport, width
        return self._height(self._stages)

    @property
    def _ellipsis(self) -> str:
        return "~" if self.ascii_only else "…"

    @staticmethod
    def _height(stages: Sequence[Stage]) -> int:
        return max(1, len(stages) + sum(1 for stage in stages if stage.state == "failed" and stage.detail))

    def as_text(self) -> str:
        """The account as lines of text, for the clipboard."""
        return "\n".join(
            f"{stage.name}  {stage.state}  {seconds(stage.took_s)}  {stage.detail}".rstrip() for stage in self._stages
        )

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        row = 0
        for stage in self._stages:
            if row == y:
                yield from self._stage(stage, width)
                return
            row += 1
            if stage.state == "failed" and stage.detail:
                if row == y:
                    yield "    " + clip(stage.detail, max(0, width - 5), ellipsis=self._ellipsis), "bad"
                    return
                row += 1

    def _stage(self, stage: Stage, width: int) -> Iterable[Span]:
        names = max(width_of(one.name) for one in self._stages)
        name_width = min(names, max(8, width // 3))
        detail_width = (width - name_width) // 2 if width >= DETAIL_FROM else 0
        bar_width = max(4, width - name_width - detail_width - 14)
        glyph = {"waiting": "·", "running": "◐", "done": "●", "failed": "✖"}[stage.state]
        if self.ascii_only:
            glyph = {"waiting": ".", "running": "~", "done": "*", "failed": "x"}[stage.state]
        role = ROLES[stage.state]
        yield f" {glyph} ", role
        yield pad(stage.name, name_width, ellipsis=self._ellipsis) + " ", "muted" if stage.state == "waiting" else ""
        yield from self._bar(stage, bar_width, role)
        again = f"x{stage.attempt}" if stage.attempt > 1 else ""
        yield pad(seconds(stage.took_s), 8, ">"), ""
        yield pad(again, 2), "warn"
        if detail_width and stage.state != "failed":
            yield " " + clip(stage.detail, detail_width - 2, ellipsis=self._ellipsis), "muted"

    def _bar(self, stage: Stage, width: int, role: str) -> Iterable[Span]:
        ends = [(one.start_s or 0.0) + (one.took_s or 0.0) for one in self._stages if one.start_s is not None]
        whole = max([1.0, *ends])
        if stage.start_s is None:
            yield " " * width, ""
            return
        start = min(width - 1, round(stage.start_s / whole * width))
        length = max(1, min(width - start, round((stage.took_s or 0.0) / whole * width)))
        full = {"done": "█", "running": "▓", "failed": "█", "waiting": " "}[stage.state]
        if self.ascii_only:
            full = {"done": "#", "running": "=", "failed": "x", "waiting": " "}[stage.state]
        line = "-" if self.ascii_only else "─"
        yield line * start, "line"
        yield full * length, role
        yield " " * (width - start - length), ""
