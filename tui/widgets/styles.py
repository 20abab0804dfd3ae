"""Roles become terminal styles here. Its one rule: a widget names a role, only the theme knows the colour.

A role string is a role name and, after it, any of the attribute words: ``"good"``, ``"bad bold"``, ``"muted"``. The
theme gives each role as the variable ``role-NAME``, a colour and attribute words (``"#9ece6a"``, ``"reverse"``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip
from textual.widget import Widget

ATTRIBUTES = frozenset({"bold", "dim", "italic", "underline", "reverse", "strike"})
Span = tuple[str, str]
"""(text, role): a run of text in one style."""


def role_style(value: str, *, background: bool = False) -> Style:
    """The Rich style of a theme's role value; a word that is neither attribute nor colour is left out."""
    attributes: dict[str, Any] = {}
    colour = None
    for word in value.split():
        if word in ATTRIBUTES:
            attributes[word] = True
            continue
        try:
            colour = Color.parse(word).rich_color
        except ColorParseError:
            continue
    if background:
        return Style(bgcolor=colour, **attributes)
    return Style(color=colour, **attributes)


class Palette:
    """The theme's roles as Rich styles, remembered until the theme changes."""

    def __init__(self, variables: Mapping[str, str], base: Style) -> None:
        self._variables = variables
        self._known: dict[tuple[str, str], Style] = {}
        self.base = base

    def style(self, role: str, background: str = "") -> Style:
        """Style of a role over the widget's own background, or over a background role such as ``select``."""
        found = self._known.get((role, background))
        if found is None:
            found = self._known[role, background] = self._make(role, background)
        return found

    def _make(self, role: str, background: str) -> Style:
        style = self.base
        for name in background.split():
            style += role_style(self._variables.get(f"role-{name}", ""), background=True)
        for word in role.split():
            style += Style.parse(word) if word in ATTRIBUTES else role_style(self._variables.get(f"role-{word}", ""))
        return style


class Themed(Widget):
    """A widget that takes its styles from the theme's roles."""

    _known_palette: Palette | None = None

    @property
    def palette(self) -> Palette:
        """The roles of the theme in use."""
        if self._known_palette is None:
            self._known_palette = Palette(self.app.theme_variables, self.rich_style)
        return self._known_palette

    def notify_style_update(self) -> None:
        """The theme or a class changed: forget the styles."""
        self._known_palette = None
        super().notify_style_update()


class PlainScrollBar(ScrollBarRender):
    """A scroll bar in whole cells, for terminals without block characters."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


class Painted(Themed):
    """A widget that draws lines of (text, role) spans itself; a subclass says what is on line ``y``."""

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """What stands on line ``y``; shorter lines are filled, longer ones cut. An empty widget draws nothing."""
        del y, width
        return ()

    def render_line(self, y: int) -> Strip:
        """One line of the widget."""
        width = self.size.width
        return paint(self.palette, self.spans(y, width), width)


def paint(palette: Palette, spans: Iterable[Span], width: int, background: str = "") -> Strip:
    """A strip of exactly ``width`` cells."""
    segments = [Segment(text, palette.style(role, background)) for text, role in spans if text]
    blank = palette.style("", background)
    return Strip(Segment.simplify(segments)).adjust_cell_length(width, blank).simplify()
