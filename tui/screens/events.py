"""The drawer with the newest events. Its one rule: looking at it makes them read."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical

from tui.render import events
from tui.widgets.styles import Painted, Span

if TYPE_CHECKING:
    from tui.app import Console


class Newest(Painted):
    """The newest facts, the newest at the bottom."""

    DEFAULT_CSS = "Newest { height: 1fr; }"

    def spans(self, y: int, width: int) -> list[Span]:
        """One fact a line."""
        del width
        console = cast("Console", self.app)
        shown = list(console.model.events)[-max(1, self.size.height) :]
        if not shown:
            return [(" nothing has happened yet", "muted")] if y == 0 else []
        index = y - (self.size.height - len(shown))
        return [(" ", ""), *events.line(shown[index], console.glyphs)] if index >= 0 else []


class Drawer(Vertical):
    """The drawer over the bottom of a panel."""

    def __init__(self) -> None:
        super().__init__(id="drawer", classes="pane")
        self.border_title = "events"
        self.border_subtitle = "! closes   0 all of them"

    def compose(self) -> ComposeResult:
        """The lines."""
        yield Newest()

    def look(self) -> None:
        """Something happened: show it; it is read by being shown."""
        cast("Console", self.app).model.seen_events()
        self.query_one(Newest).refresh()

    def close(self) -> None:
        """Close it."""
        self.remove()
