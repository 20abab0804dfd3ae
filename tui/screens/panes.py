"""The widgets with the console's keys on them. Its one rule: nothing but the keys is added."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from tui.actions import LIST
from tui.bindings import bindings
from tui.widgets.vtable import VTable


class Table(VTable):
    """A table that listens to the keys of lists."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(LIST)
