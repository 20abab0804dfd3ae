"""A choice of one: the actions of a row, the help. Its one rule: every line is made from the registry or handed in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from textual import on
from textual.app import ComposeResult

from tui.actions import EVERYWHERE, LOG, Action, shown
from tui.screens.confirm import Sheet, Text
from tui.screens.panes import Table
from tui.widgets.columns import CellLike, Column
from tui.widgets.vtable import VTable

if TYPE_CHECKING:
    from tui.app import Console


class Choice(NamedTuple):
    """One line of a menu."""

    key: str
    cells: tuple[CellLike, ...]


class Choices:
    """Lines that do not change by themselves, as a table's source."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = list(choices)

    def __len__(self) -> int:
        return len(self.choices)

    def row_key(self, index: int) -> Hashable:
        """The choice's key."""
        return self.choices[index].key

    def stamp(self, index: int) -> Hashable:
        """A choice looks as it is."""
        return self.choices[index].cells

    def cells(self, index: int) -> Sequence[CellLike]:
        """The line."""
        return self.choices[index].cells


class Menu(Sheet[str]):
    """A list; enter takes the line under the cursor."""

    def __init__(self, title: str, columns: Sequence[Column], choices: Sequence[Choice], foot: str) -> None:
        super().__init__()
        self._title = title
        self._columns = columns
        self._choices = choices
        self._foot = foot

    def card_title(self) -> str:
        """What is chosen."""
        return self._title

    def card(self) -> ComposeResult:
        """The list."""
        table = Table(self._columns, Choices(self._choices), id="list")
        table.styles.height = min(18, len(self._choices) + 1)
        yield table
        yield Text([(), ((self._foot, "muted"),)])

    def on_mount(self) -> None:
        """The list has the keys."""
        self.query_one(Table).focus()

    @on(VTable.Opened)
    def chosen(self, message: VTable.Opened) -> None:
        """Enter."""
        message.stop()
        self.dismiss(str(message.key))


ACTION_COLUMNS = (Column("key", "KEY", 6), Column("what", "ACTION", 13), Column("help", "", 20, flex=1))


def action_choice(action: Action) -> Choice:
    """An action as a line: its keys, its label in the colour of danger, its help."""
    keys = " ".join(shown(key) for key in action.keys)
    role = "bad" if action.dangerous else "bold"
    return Choice(action.id, ((keys, "key", ""), (action.label, role, ""), (action.help, "muted", "")))


def open_menu(console: Console) -> None:
    """The actions of the row under the cursor."""
    panel = console.panel
    if panel is None:
        return
    places = [place for place in panel.places() if place not in (EVERYWHERE, "list")]
    own = [
        action for action in console.registry.at(places) if panel.offered(action) and (LOG not in places or action.rank)
    ]
    if not own:
        console.say("There is nothing to do with a row here.", "warning")
        return

    async def act(chosen: str | None) -> None:
        if chosen is not None:
            await console.perform(console.registry.get(chosen))

    name = panel.row_name()
    console.push_screen(
        Menu(name or "actions", ACTION_COLUMNS, [action_choice(a) for a in own], "enter does it, esc leaves"), act
    )
