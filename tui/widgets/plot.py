"""Curves in braille on the line API. Its one rule: no spike is lost; a dot column goes from its least to its most.

Several series, gaps where a value is None, vertical marks with a name, an axis that says its figures; without braille
(``blocks`` or ``ascii``) the same curve in coarser cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tui.widgets.styles import Painted, Span
from tui.widgets.text import clip, pad, width_of

Mode = Literal["braille", "blocks", "ascii"]

BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille dots by row and column of a cell (Unicode 3.0, block U+2800)."""
BLOCKS = {0: " ", 1: "▀", 2: "▄", 3: "█"}
DOTS: dict[Mode, tuple[int, int]] = {"braille": (2, 4), "blocks": (1, 2), "ascii": (1, 1)}
"""Columns and rows of dots in a cell."""
LABEL_EVERY = 4
"""Rows between two figures on the axis."""
ROOM_FOR_A_CONSTANT = 0.05
"""A curve that does not move stands in the middle of this much of its value to both sides."""
ROOM_FOR_ZERO = 0.5


@dataclass(frozen=True)
class Series:
    """One curve: x rises; a y that is None or not finite is a gap."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    role: str = "plot-1"


@dataclass(frozen=True)
class Marker:
    """A vertical line at x with a name."""

    x: float
    name: str
    role: str = "warn"


def plain_number(value: float) -> str:
    """A figure for an axis in at most seven cells."""
    size = abs(value)
    if size >= 100_000:
        return f"{value:.1e}"
    if size >= 1000 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


@dataclass
class Canvas:
    """A grid of cells with dots in them and the series that drew last in each."""

    width: int
    height: int
    mode: Mode
    bits: list[bytearray] = field(default_factory=list)
    owner: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bits = [bytearray(self.width) for _ in range(self.height)]
        self.owner = [bytearray(self.width) for _ in range(self.height)]
        self.across, self.down = DOTS[self.mode]

    @property
    def columns(self) -> int:
        """Dot columns."""
        return self.width * self.across

    @property
    def rows(self) -> int:
        """Dot rows."""
        return self.height * self.down

    def line(self, column: int, top: int, bottom: int, owner: int) -> None:
        """Set the dots of one column from top to bottom."""
        cell, side = divmod(column, self.across)
        for row in range(max(0, top), min(self.rows - 1, bottom) + 1):
            y, part = divmod(row, self.down)
            self.bits[y][cell] |= BITS[part][side] if self.mode == "braille" else 1 << part
            self.owner[y][cell] = owner

    def glyph(self, x: int, y: int) -> str:
        """The character of a cell."""
        bits = self.bits[y][x]
        if self.mode == "braille":
            return chr(0x2800 + bits) if bits else " "
        if self.mode == "blocks":
            return BLOCKS[bits & 3]
        return "*" if bits else " "


@dataclass(frozen=True)
class Range:
    """The figures at the ends of both axes."""

    left: float
    right: float
    low: float
    high: float


def ranges(series: Sequence[Series], low: float | None, high: float | None) -> Range | None:
    """The range of all series; None where there is nothing to draw."""
    xs = [x for one in series for x in one.xs[:1]] + [x for one in series for x in one.xs[-1:]]
    ys = [y for one in series for y in one.ys if y is not None and math.isfinite(y)]
    if not xs or not ys:
        return None
    floor = min(ys) if low is None else low
    ceiling = max(ys) if high is None else high
    if ceiling <= floor:
        room = abs(floor) * ROOM_FOR_A_CONSTANT or ROOM_FOR_ZERO
        floor, ceiling = (floor - room if low is None else floor), max(ceiling, floor) + room
    return Range(min(xs), max(xs), floor, ceiling)


def draw(canvas: Canvas, series: Series, span: Range, owner: int) -> None:
    """Draw one curve: each dot column from its least to its most, joined to the one before unless there is a gap."""
    columns, rows = canvas.columns, canvas.rows
    scale_x = (columns - 1) / ((span.right - span.left) or 1)
    scale_y = (rows - 1) / (span.high - span.low)
    before: tuple[int, int, int] | None = None
    for column, least, most in _columns(series, span.left, scale_x, columns):
        if least is None or most is None:
            before = None
            continue
        top = round((span.high - min(most, span.high)) * scale_y)
        bottom = round((span.high - max(least, span.low)) * scale_y)
        first, last = top, bottom
        if before is not None:
            reached = _join(canvas, before, (column, top, bottom), owner)
            if top > reached[1]:
                first = reached[1] + 1
            elif bottom < reached[0]:
                last = reached[0] - 1
        canvas.line(column, min(first, bottom), max(last, top), owner)
        before = (column, top, bottom)


def _columns(
    series: Series, left: float, scale: float, columns: int
) -> Iterable[tuple[int, float | None, float | None]]:
    """(dot column, least, most) in order; None for a gap."""
    at, least, most = -1, math.inf, -math.inf
    for x, y in zip(series.xs, series.ys, strict=False):
        column = max(0, min(columns - 1, int((x - left) * scale)))
        if column != at and at >= 0 and most >= least:
            yield at, least, most
        if column != at:
            at, least, most = column, math.inf, -math.inf
        if y is None or not math.isfinite(y):
            if most >= least:
                yield at, least, most
            yield at, None, None
            least, most = math.inf, -math.inf
        else:
            least, most = min(least, y), max(most, y)
    if most >= least:
        yield at, least, most


def _join(canvas: Canvas, before: tuple[int, int, int], now: tuple[int, int, int], owner: int) -> tuple[int, int]:
    """Draw the straight line over the dot columns between two that have values; the rows that it reached at its end."""
    gap = now[0] - before[0]
    start, end = (before[1] + before[2]) / 2, (now[1] + now[2]) / 2
    reached = before[1], before[2]
    for step in range(1, gap):
        row = round(start + (end - start) * step / gap)
        top, bottom = row, row
        if row > reached[1]:
            top = min(row, reached[1] + 1)
        elif row < reached[0]:
            bottom = max(row, reached[0] - 1)
        canvas.line(before[0] + step, top, bottom, owner)
        reached = row, row
    return reached


class Plot(Painted):
    """A plot of some series."""

    DEFAULT_CSS = "Plot { height: 1fr; }"

    def __init__(
        self,
        *,
        mode: Mode = "braille",
        low: float | None = None,
        high: float | None = None,
        figure: Callable[[float], str] = plain_number,
        x_figure: Callable[[float], str] = plain_number,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """``low`` and ``high`` fix the ends of the y axis; ``figure`` and ``x_figure`` write the figures on them."""
        super().__init__(id=id, classes=classes)
        self.mode: Mode = mode
        self.low = low
        self.high = high
        self.figure = figure
        self.x_figure = x_figure
        self.placeholder = "no data yet"
        self.series: tuple[Series, ...] = ()
        self.markers: tuple[Marker, ...] = ()
        self._drawn: list[list[Span]] | None = None

    def show(self, series: Sequence[Series], markers: Sequence[Marker] = ()) -> None:
        """Show these curves."""
        self.series, self.markers = tuple(series), tuple(markers)
        self._drawn = None
        self.refresh()

    def notify_style_update(self) -> None:
        """The theme changed."""
        self._drawn = None
        super().notify_style_update()

    def on_resize(self) -> None:
        """Another size, another picture."""
        self._drawn = None

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        if self._drawn is None:
            self._drawn = self._draw(width, self.size.height)
        return self._drawn[y] if y < len(self._drawn) else ()

    def _draw(self, width: int, height: int) -> list[list[Span]]:
        span = ranges(self.series, self.low, self.high)
        if span is None or width < 12 or height < 4:
            text = clip(self.placeholder if span is None else "no room for the curve", max(0, width - 1))
            return [[(pad(text, width, "^"), "muted")] if y == height // 2 else [] for y in range(height)]
        rows = height - 2
        labels = [""] * rows
        for row in range(0, rows, LABEL_EVERY):
            labels[row] = self.figure(span.high - (span.high - span.low) * row / max(1, rows - 1))
        labels[-1] = self.figure(span.low)
        margin = max(map(width_of, labels)) + 1
        canvas = Canvas(max(1, width - margin - 1), rows, self.mode)
        for owner, series in enumerate(self.series, 1):
            draw(canvas, series, span, owner)
        lines = [self._row(canvas, y, labels[y], margin, span) for y in range(rows)]
        corner, dash = ("+", "-") if self.mode == "ascii" else ("└", "─")
        lines.append([(" " * margin + corner + dash * canvas.width, "line")])
        lines.append(self._legend(span, margin, canvas.width))
        return lines

    def _row(self, canvas: Canvas, y: int, label: str, margin: int, span: Range) -> list[Span]:
        tick = "|" if self.mode == "ascii" else ("┤" if label else "│")
        found: list[Span] = [(pad(label, margin - 1, ">") + " ", "muted"), (tick, "line")]
        roles = ["", *(series.role for series in self.series)]
        at = {self._column(marker, canvas.width, span): marker for marker in self.markers}
        names = self._names(canvas.width, span) if y == 0 else {}
        run, role, x = "", "", 0
        while x < canvas.width:
            glyph, now = canvas.glyph(x, y), roles[canvas.owner[y][x]]
            if glyph == " " and x in at:
                glyph, now = ("|" if self.mode == "ascii" else "┊"), at[x].role
            if x in names and not any(canvas.bits[y][x : x + len(names[x])]):
                glyph, now = names[x], "muted"
            if now != role:
                found.append((run, role))
                run, role = "", now
            run += glyph
            x += len(glyph)
        found.append((run, role))
        return found

    def _names(self, width: int, span: Range) -> dict[int, str]:
        """Names of the markers, at the cell after each, where there is room."""
        places = ((self._column(marker, width, span) + 1, marker.name) for marker in self.markers)
        return {at: name for at, name in places if name and at + len(name) <= width and name.isascii()}

    def _column(self, marker: Marker, width: int, span: Range) -> int:
        return round((marker.x - span.left) / ((span.right - span.left) or 1) * (width - 1))

    def _legend(self, span: Range, margin: int, width: int) -> list[Span]:
        left, right = self.x_figure(span.left), self.x_figure(span.right)
        square = "#" if self.mode == "ascii" else "■"
        names = [(f"{square} {series.name}", series.role) for series in self.series if series.name]
        taken = sum(width_of(text) + 2 for text, _ in names)
        spare = width - width_of(left) - width_of(right) - taken
        if spare < 2:
            names, spare = [], width - width_of(left) - width_of(right)
        found: list[Span] = [(" " * (margin + 1) + left + " " * max(1, spare // 2), "muted")]
        for text, role in names:
            found += [(text, role), ("  ", "")]
        found.append((" " * max(0, spare - spare // 2) + right, "muted"))
        return found
