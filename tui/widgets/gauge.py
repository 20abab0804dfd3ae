"""One figure as a line: label, bar, value. Its one rule: the value stands beside the bar, always."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tui.widgets.bar import bar, sparkline
from tui.widgets.styles import Painted, Span
from tui.widgets.text import pad, width_of


@dataclass(frozen=True)
class Figure:
    """What one line shows: ``share`` from 0 to 1 or None for "not said"; ``past`` draws a sparkline after the value."""

    label: str
    share: float | None
    value: str
    role: str = "good"
    past: tuple[float | None, ...] = ()


class Gauges(Painted):
    """Figures under each other, their columns aligned."""

    DEFAULT_CSS = "Gauges { height: auto; }"

    def __init__(
        self,
        figures: Sequence[Figure] = (),
        *,
        ascii_only: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.ascii_only = ascii_only
        self._figures = tuple(figures)

    def show(self, figures: Sequence[Figure]) -> None:
        """Show these; only the lines that differ are painted."""
        now, before = tuple(figures), self._figures
        self._figures = now
        if len(now) != len(before):
            self.refresh(layout=True)
        elif now != before:
            self.refresh()

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """One row a figure."""
        del container, viewport, width
        return max(1, len(self._figures))

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        if y >= len(self._figures):
            return
        figure = self._figures[y]
        label_width = max(width_of(one.label) for one in self._figures) + 1
        value_width = max(width_of(one.value) for one in self._figures) + 1
        room = max(0, width - label_width - value_width - 1)
        past_width = min(30, room // 3) if any(one.past for one in self._figures) else 0
        bar_width = max(0, room - past_width - (1 if past_width else 0))
        yield pad(figure.label, label_width), "muted"
        drawn = bar(figure.share, bar_width, ascii_only=self.ascii_only)
        full = drawn.rstrip(" ")
        yield full, figure.role
        yield ("." if self.ascii_only else "░") * (len(drawn) - len(full)), "line"
        yield pad(figure.value, value_width, ">"), ""
        if past_width:
            past = sparkline(figure.past, past_width, low=0.0, high=1.0, ascii_only=self.ascii_only)
            yield f" {past}", figure.role
