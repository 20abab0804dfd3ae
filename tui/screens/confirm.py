"""Sheets: what stands over a panel and waits for an answer. Its one rule: leaving it changes nothing.

What destroys is confirmed by typing the name of what is destroyed; what can be undone is not asked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.actions import DIALOG
from tui.bindings import bindings
from tui.widgets.line import Line
from tui.widgets.styles import Painted, Span

Result = TypeVar("Result")


class Text(Painted):
    """Lines of spans, as high as there are lines."""

    DEFAULT_CSS = "Text { height: auto; }"

    def __init__(self, lines: Sequence[Sequence[Span]], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines = [tuple(line) for line in lines]

    def show(self, lines: Sequence[Sequence[Span]]) -> None:
        """Show other lines."""
        now = [tuple(line) for line in lines]
        if now != self.lines:
            higher = len(now) != len(self.lines)
            self.lines = now
            self.refresh(layout=higher)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """One row a line."""
        del container, viewport, width
        return len(self.lines)

    def spans(self, y: int, width: int) -> Sequence[Span]:
        """The line."""
        del width
        return self.lines[y] if y < len(self.lines) else ()


class Sheet(ModalScreen[Result | None], inherit_bindings=False):
    """A card over the panel; escape leaves with None."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(DIALOG)
    title_text: ClassVar[str] = ""

    def card(self) -> ComposeResult:
        """What is on the card."""
        return ()

    def compose(self) -> ComposeResult:
        """The card."""
        with Vertical(id="card") as card:
            card.border_title = self.card_title()
            yield from self.card()

    def card_title(self) -> str:
        """The title on the card's edge."""
        return self.title_text

    def action_leave(self) -> None:
        """Leave it as it is."""
        self.dismiss(None)

    def action_confirm(self) -> None:
        """Do it; a sheet that asks for more than a key overrides this."""


class Question(Sheet[bool]):
    """A question that enter answers with yes."""

    def __init__(self, title: str, lines: Sequence[str], yes: str) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._yes = yes

    def card_title(self) -> str:
        """The question."""
        return self._title

    def card(self) -> ComposeResult:
        """What it is about, and the two keys."""
        yield Static("\n".join(self._lines), markup=False)
        yield Text([(), (("enter ", "key bold"), (f"{self._yes}   ", ""), ("esc ", "key bold"), ("leave it", ""))])

    def action_confirm(self) -> None:
        """Yes."""
        self.dismiss(True)


class TypeTheName(Sheet[bool]):
    """Destroying asks for the name of what is destroyed; anything else does nothing."""

    def __init__(self, title: str, name: str, lines: Sequence[Sequence[Span]]) -> None:
        """``lines`` say what is lost and what it means in money."""
        super().__init__()
        self._title = title
        self._wanted = name
        self._lines = lines

    def card_title(self) -> str:
        """What will be done."""
        return self._title

    def card(self) -> ComposeResult:
        """What is lost, and the line for the name."""
        yield Text([*self._lines, (), (("type ", "muted"), (self._wanted, "bold"), (" to do it", "muted"))])
        yield Line(id="name")
        yield Text(
            [(), (("enter ", "key bold"), ("destroy   ", "bad"), ("esc ", "key bold"), ("leave it", ""))], id="say"
        )

    def on_mount(self) -> None:
        """Typing starts at once."""
        self.query_one(Line).focus()

    @on(Line.Left)
    def left(self, message: Line.Left) -> None:
        """Escape in the line."""
        message.stop()
        self.action_leave()

    @on(Input.Submitted)
    def submitted(self, message: Input.Submitted) -> None:
        """Enter in the line."""
        message.stop()
        self.action_confirm()

    def action_confirm(self) -> None:
        """Only the right name does it."""
        typed = self.query_one(Line).value.strip()
        if typed == self._wanted:
            self.dismiss(True)
            return
        said = "nothing was typed" if not typed else f"{typed!r} is not {self._wanted!r}"
        self.query_one("#say", Text).show(
            [(), ((f"{said}; nothing was done   ", "warn"), ("esc ", "key bold"), ("leave it", ""))]
        )
