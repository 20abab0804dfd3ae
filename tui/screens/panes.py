"""The widgets with the console's keys on them. Its one rule: nothing but the keys is added."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from tui.actions import LIST
from tui.bindings import bindings
from tui.widgets.styles import PlainScrollBar
from tui.widgets.vtable import VTable


class Table(VTable):
    """A table that listens to the keys of lists."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(LIST)

    def on_mount(self) -> None:
        """Keep to the character set of the console it is in."""
        self.ascii_only = self.ascii_only or bool(getattr(self.app, "ascii_only", False))
        if self.ascii_only:
            self.vertical_scrollbar.renderer = PlainScrollBar  # type: ignore[misc]
