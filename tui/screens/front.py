"""What opens in a panel without leaving it: command bar, filter bar, events drawer. Its one rule: escape closes one
at a time, the topmost first, and the focus goes back where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.commands import completions, do_command
from tui.screens.base import Panel
from tui.screens.events import Drawer
from tui.widgets.keyline import KeyLine
from tui.widgets.line import Line

if TYPE_CHECKING:
    from tui.app import Console

HISTORY_KEPT = 100


class Prompt(Horizontal):
    """A line of typing in the place of the key line."""

    def __init__(self, sign: str, line: Line, before: Widget | None) -> None:
        super().__init__(id="prompt")
        self.sign = sign
        self.line = line
        self.before = before

    def compose(self) -> ComposeResult:
        """The sign and the line."""
        yield Static(self.sign, id="sign", markup=False)
        yield self.line

    def on_mount(self) -> None:
        """Typing starts at once."""
        self.screen.query_one(KeyLine).display = False
        self.line.focus()

    def close(self) -> None:
        """Give the place and the focus back."""
        self.screen.query_one(KeyLine).display = True
        if self.before is not None and self.before.is_attached:
            self.before.focus()
        self.remove()

    @on(Line.Left)
    def leave(self, message: Line.Left) -> None:
        """Escape."""
        message.stop()
        self.close()


class CommandPrompt(Prompt):
    """``:`` and the name of an action."""

    @on(Input.Submitted)
    async def submitted(self, message: Input.Submitted) -> None:
        """Do what was typed."""
        message.stop()
        console: Console = self.app  # type: ignore[assignment]
        text = message.value.strip()
        self.close()
        if text:
            console.history[:] = [*(line for line in console.history if line != text), text][-HISTORY_KEPT:]
            await do_command(console, text)


class FilterPrompt(Prompt):
    """``/`` and words; the rows follow while they are typed."""

    @on(Input.Changed)
    def typed(self, message: Input.Changed) -> None:
        """Filter as it is typed."""
        message.stop()
        panel = self.screen
        if isinstance(panel, Panel) and panel.filter_text != message.value.strip():
            panel.filter_text = message.value.strip()
            panel.apply_filter(panel.filter_text)

    @on(Input.Submitted)
    def submitted(self, message: Input.Submitted) -> None:
        """Keep the filter; its chip stays."""
        message.stop()
        self.close()

    @on(Line.Left)
    def leave(self, message: Line.Left) -> None:
        """Escape takes the filter away."""
        message.stop()
        clear_filter(self.screen)
        self.close()


def clear_filter(screen: Widget) -> bool:
    """Take the filter of a panel away; False where there is none."""
    if not isinstance(screen, Panel) or not screen.filter_text:
        return False
    screen.filter_text = ""
    screen.apply_filter("")
    screen.count_filter(0, 0)
    return True


def _open(console: Console, prompt: Prompt) -> None:
    panel = console.screen
    if isinstance(panel, Panel) and not panel.query(Prompt):
        panel.query_one("#foot").mount(prompt)


def open_command(console: Console) -> None:
    """Open the command bar."""
    line = Line(history=console.history, complete=lambda text: completions(console, text))
    _open(console, CommandPrompt(":", line, console.screen.focused))


def open_filter(console: Console) -> None:
    """Open the filter bar with the filter in use."""
    panel = console.screen
    value = panel.filter_text if isinstance(panel, Panel) else ""
    _open(console, FilterPrompt("/", Line(value=value), panel.focused))


def toggle_drawer(console: Console) -> None:
    """Open or close the newest events."""
    panel = console.panel
    if panel is None:
        return
    for drawer in panel.query(Drawer):
        drawer.close()
        return
    panel.query_one("#body").mount(Drawer())
    console.model.seen_events()


def close_front(console: Console) -> bool:
    """Close the topmost thing that is open in the panel in front; False where nothing is."""
    screen = console.screen
    for prompt in screen.query(Prompt):
        prompt.close()
        return True
    for drawer in screen.query(Drawer):
        drawer.close()
        return True
    return clear_filter(screen)
