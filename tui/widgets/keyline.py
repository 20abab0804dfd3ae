"""The line of keys at the bottom. Its one rule: what works here, the most useful first, and never half a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from textual import events
from textual.message import Message

from tui.widgets.styles import Painted, Span
from tui.widgets.text import width_of


class Hint(NamedTuple):
    """One key and what it does. ``rank``: the greatest is left out first."""

    action: str
    key: str
    label: str
    rank: int = 0

    @property
    def width(self) -> int:
        """Cells it takes, with the gap after it."""
        return width_of(self.key) + width_of(self.label) + 3


def fitting(hints: Sequence[Hint], width: int) -> list[Hint]:
    """The hints that fit whole, in order."""
    kept = list(hints)
    while kept and sum(hint.width for hint in kept) > width:
        kept.remove(max(kept, key=lambda hint: hint.rank))
    return kept


class KeyLine(Painted):
    """One line of keys, or one sentence in their place."""

    DEFAULT_CSS = "KeyLine { height: 1; background: $panel; color: $foreground; }"

    class Pressed(Message):
        """A click on a key."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._hints: tuple[Hint, ...] = ()
        self._note: tuple[Span, ...] = ()

    def show(self, hints: Sequence[Hint]) -> None:
        """Show these keys."""
        if tuple(hints) != self._hints:
            self._hints = tuple(hints)
            self.refresh()

    def note(self, spans: Sequence[Span]) -> None:
        """Show a sentence in the place of the keys; none gives the keys back."""
        if tuple(spans) != self._note:
            self._note = tuple(spans)
            self.refresh()

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        del y
        yield " ", ""
        if self._note:
            yield from self._note
            return
        for hint in fitting(self._hints, width - 1):
            yield hint.key, "key bold"
            yield f" {hint.label}  ", "muted"

    def on_click(self, event: events.Click) -> None:
        """Do what the key under the pointer does."""
        edge = 1
        for hint in fitting(self._hints, self.size.width - 1):
            edge += hint.width
            if event.x < edge:
                self.post_message(self.Pressed(hint.action))
                return
