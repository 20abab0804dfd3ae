"""The status line at the top. Its one rule: what does not fit goes by priority, and the clock at the right stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tui.widgets.styles import Painted, Span
from tui.widgets.text import width_of

GAP = 2
"""Cells between two items."""


class Item(NamedTuple):
    """Some spans that stand or go together. ``priority`` 0 never goes; the greatest goes first."""

    spans: tuple[Span, ...]
    priority: int = 0

    @property
    def width(self) -> int:
        """Cells it takes."""
        return sum(width_of(text) for text, _ in self.spans)


def fitting(items: Sequence[Item], width: int) -> list[Item]:
    """The items that fit into ``width`` cells, in order."""
    kept = [item for item in items if item.spans]
    while kept and sum(item.width + GAP for item in kept) > width:
        victim = max(kept, key=lambda item: item.priority)
        if victim.priority == 0:
            break
        kept.remove(victim)
    return kept


class StatusBar(Painted):
    """One line: items at the left, one at the right."""

    DEFAULT_CSS = "StatusBar { height: 1; background: $panel; color: $foreground; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._items: tuple[Item, ...] = ()
        self._right: tuple[Span, ...] = ()

    def show(self, items: Sequence[Item], right: Sequence[Span] = ()) -> None:
        """Show these; nothing is painted when nothing changed."""
        now, right_now = tuple(items), tuple(right)
        if (now, right_now) != (self._items, self._right):
            self._items, self._right = now, right_now
            self.refresh()

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        del y
        right = Item(self._right)
        yield " ", ""
        taken = 1
        for index, item in enumerate(fitting(self._items, width - right.width - 2)):
            if index:
                yield " " * GAP, ""
                taken += GAP
            yield from item.spans
            taken += item.width
        yield " " * max(1, width - taken - right.width - 1), ""
        yield from right.spans
