"""The keys that work here, searchable. Its one rule: it is made from the registry alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input

from tui.actions import EVERYWHERE, LIST, SCENES, Action
from tui.screens.confirm import Sheet, Text
from tui.screens.menu import ACTION_COLUMNS, Choices, action_choice
from tui.screens.panes import Table
from tui.widgets.columns import Column
from tui.widgets.line import Line

if TYPE_CHECKING:
    from tui.app import Console

HELP_COLUMNS = (
    *ACTION_COLUMNS[:2],
    Column("help", "", 24, flex=2),
    Column("verb", "UNDERSTUDY", 16, priority=1, flex=1),
)


def listed(actions: Sequence[Action], places: Sequence[str], words: str) -> list[Action]:
    """The actions of these places whose words match, those of the nearest place first."""
    order = [*places] if not words else list(dict.fromkeys([*places, *(p for scene in SCENES.values() for p in scene)]))
    wanted = words.casefold().split()

    def rank(action: Action) -> int:
        return min((order.index(place) for place in action.where if place in order), default=len(order))

    def matches(action: Action) -> bool:
        text = f"{action.id} {action.label} {action.help} {action.verb} {' '.join(action.keys)}".casefold()
        return all(word in text for word in wanted)

    chosen = [action for action in actions if rank(action) < len(order) and matches(action)]
    return sorted(chosen, key=rank)


class Help(Sheet[None]):
    """A table of keys and a line to search in it."""

    def __init__(self, scene: str, places: Sequence[str]) -> None:
        super().__init__()
        self._scene = scene
        order = {LIST: 1, EVERYWHERE: 2}
        self._places = sorted(places, key=lambda place: order.get(place, 0))

    def card_title(self) -> str:
        """Where one is."""
        return f"keys in {self._scene}"

    def card(self) -> ComposeResult:
        """The search line and the table."""
        yield Line(placeholder="type to search all keys and commands", id="search")
        yield Table(HELP_COLUMNS, Choices([]), id="list")
        yield Text([(("rebind any of them by its name in [keys] of config.toml; esc closes", "muted"),)])

    def on_mount(self) -> None:
        """Show all; typing narrows."""
        self._show("")
        self.query_one(Line).focus()

    def _show(self, words: str) -> None:
        console = cast("Console", self.app)
        choices = []
        for action in listed(console.registry.actions, self._places, words):
            choice = action_choice(action)
            choices.append(choice._replace(cells=(*choice.cells, (action.verb, "accent", ""))))
        table = self.query_one(Table)
        table.placeholder = [[("no key and no command has these words", "muted")]]
        table.set_source(Choices(choices))

    @on(Input.Changed)
    def typed(self, message: Input.Changed) -> None:
        """Narrow."""
        message.stop()
        self._show(message.value)

    @on(Input.Submitted)
    def submitted(self, message: Input.Submitted) -> None:
        """Enter goes into the table, to scroll with its keys."""
        message.stop()
        self.query_one(Table).focus()

    @on(Line.Left)
    def left(self, message: Line.Left) -> None:
        """Escape in the line."""
        message.stop()
        self.action_leave()
