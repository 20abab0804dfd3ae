"""The line of panels. Its one rule: every panel is on it at every width; long names go first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from textual import events
from textual.message import Message

from tui.widgets.styles import Painted, Span
from tui.widgets.text import width_of


class Tab(NamedTuple):
    """One panel: its key, its name, and the name it has when there is little room."""

    id: str
    key: str
    title: str
    short: str


def labels(tabs: Sequence[Tab], width: int) -> list[str]:
    """What stands on each tab at this width."""
    forms = (
        [f" {tab.key} {tab.title} " for tab in tabs],
        [f" {tab.key} {tab.short} " for tab in tabs],
        [f" {tab.key} " for tab in tabs],
    )
    return next((form for form in forms if sum(map(width_of, form)) < width), forms[-1])


class TabLine(Painted):
    """One line: the panels, the one in front marked."""

    DEFAULT_CSS = "TabLine { height: 1; background: $background; color: $foreground; }"

    class Chosen(Message):
        """A click on a tab."""

        def __init__(self, tab: str) -> None:
            super().__init__()
            self.tab = tab

    def __init__(self, tabs: Sequence[Tab], active: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tabs = tuple(tabs)
        self.active = active

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        del y
        for tab, label in zip(self.tabs, labels(self.tabs, width), strict=True):
            yield label, "tab reverse" if tab.id == self.active else "muted"

    def on_click(self, event: events.Click) -> None:
        """Go to the panel under the pointer."""
        edge = 0
        for tab, label in zip(self.tabs, labels(self.tabs, self.size.width), strict=True):
            edge += width_of(label)
            if event.x < edge:
                self.post_message(self.Chosen(tab.id))
                return
