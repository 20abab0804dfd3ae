"""Series of the renderer as curves of the plot widget. One rule: nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterable

from tui.render.prices import Series as Curve
from tui.widgets.plot import Mode, Series


def plotted(curves: Iterable[Curve]) -> list[Series]:
    """The curves in the plot's own type."""
    return [Series(one.name, one.xs, one.ys, one.role) for one in curves]


def mode(ascii_only: bool) -> Mode:
    """How a plot draws in the character set in use."""
    return "ascii" if ascii_only else "braille"
