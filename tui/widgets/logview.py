"""A log that is followed. Its one rule: a line costs its text; only visible ones are painted, however many are kept.

A ring of the newest lines, with follow, search, only the matches, times and wrapping. What comes in is made harmless: a
control character in a log of a rented machine must not drive the operator's terminal.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import chop_cells
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.widgets.styles import Span, Themed, paint
from tui.widgets.text import width_of

KEPT = 20_000
"""Lines in the ring."""
SLACK = 1_000
"""The ring is cut only every so many lines: cutting a list costs its length."""
LONGEST = 4_000
"""Characters kept of one line."""
STEP = 8
"""Cells of a step sideways."""
HIDDEN = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x202A, 0x202F)], "·")
HIDDEN |= dict.fromkeys([*range(0x2060, 0x2070), 0xFEFF], "·") | {0x09: "    "}
"""Control, zero-width and direction characters, and what is shown in their place."""

Times = Literal["off", "clock", "age"]


@dataclass(frozen=True)
class LogLine:
    """One line: when it was, in epoch seconds, or None; its spans."""

    at: float | None
    spans: tuple[Span, ...]
    text: str


def harmless(text: str) -> str:
    """The text without anything that a terminal would act on."""
    text = text[:LONGEST]
    return text if text.isprintable() else text.translate(HIDDEN)


def log_line(spans: Iterable[Span], at: float | None = None) -> LogLine:
    """A line of the log, made harmless."""
    safe = tuple((harmless(text), role) for text, role in spans)
    return LogLine(at, safe, "".join(text for text, _ in safe))


class LogView(Themed, ScrollView, can_focus=True, inherit_bindings=False):
    """The view. It binds no key itself: a subclass in the product does, for the ``action_*`` methods here."""

    DEFAULT_CSS = """
    LogView { height: 1fr; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    class Moved(Message):
        """Follow went on or off, or lines came while it was off: the owner's title may say so."""

        def __init__(self, view: LogView) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> LogView:
            """The view, for selectors in handlers."""
            return self.view

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        kept: int = KEPT,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.placeholder: Sequence[Sequence[Span]] = ()
        self.following = True
        self.wrapped = False
        self.only = False
        self.times: Times = "off"
        self.needle = ""
        self.unseen = 0
        """Lines that came while the view was not following."""
        self._clock = clock
        self._kept = kept
        self._lines: list[LogLine] = []
        self._first = 0
        """Number of the first kept line; numbers only grow."""
        self._rows: list[tuple[int, int]] = []
        """What is shown: (number of the line, character it starts at), in order."""
        self._left = 0

    # -- what the owner calls ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, lines: Iterable[LogLine]) -> None:
        """Add lines at the end; the oldest go when the ring is full."""
        number = self._first + len(self._lines)
        rows = len(self._rows)
        for line in lines:
            self._lines.append(line)
            self._rows += self._rows_of(number, line)
            number += 1
        self._trim()
        if len(self._rows) == rows and not self._lines:
            return
        if not self.following:
            self.unseen += max(0, len(self._rows) - rows)
            self.post_message(self.Moved(self))
        self._lay_out()

    def clear(self) -> None:
        """Forget every line."""
        self._first += len(self._lines)
        self._lines.clear()
        self._rows.clear()
        self.unseen = 0
        self._lay_out()

    def search(self, needle: str) -> int:
        """Mark the text wherever it stands, any case; returns the number of lines with it."""
        self.needle = needle.casefold()
        if self.only:
            self._rebuild()
        self.refresh()
        return (
            sum(1 for line in self._lines if self.needle in line.text.casefold()) if self.needle else len(self._lines)
        )

    def shown_text(self) -> str:
        """The visible lines as text, for the clipboard."""
        numbers = dict.fromkeys(number for number, _ in self._visible())
        return "\n".join(self._line(number).text for number in numbers)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _line(self, number: int) -> LogLine:
        return self._lines[number - self._first]

    def _rows_of(self, number: int, line: LogLine) -> list[tuple[int, int]]:
        if self.only and self.needle and self.needle not in line.text.casefold():
            return []
        width = self.scrollable_content_region.width - self._time_width
        if not self.wrapped or width <= 0 or width_of(line.text) <= width:
            return [(number, 0)]
        rows, start = [], 0
        for part in chop_cells(line.text, width):
            rows.append((number, start))
            start += len(part)
        return rows

    def _rebuild(self) -> None:
        self._rows = [row for index, line in enumerate(self._lines) for row in self._rows_of(self._first + index, line)]
        self._lay_out()

    def _trim(self) -> None:
        extra = len(self._lines) - self._kept
        if extra < min(SLACK, self._kept):
            return
        del self._lines[:extra]
        self._first += extra
        gone = bisect_left(self._rows, (self._first, 0))
        del self._rows[:gone]
        if not self.following:
            self.scroll_to(y=max(0, self.scroll_offset.y - gone), animate=False, immediate=True, force=True)

    def _lay_out(self) -> None:
        self.virtual_size = Size(1, len(self._rows))
        if self.following:
            self._to_end()
        self.refresh()

    def _to_end(self) -> None:
        self.scroll_to(y=max(0, len(self._rows) - self._height), animate=False, immediate=True, force=True)

    @property
    def _height(self) -> int:
        return max(1, self.scrollable_content_region.height)

    def _visible(self) -> list[tuple[int, int]]:
        top = self.scroll_offset.y
        return self._rows[top : top + self._height]

    # -- painting ------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One row."""
        width = self.size.width
        at = self.scroll_offset.y + y
        if at >= len(self._rows):
            line = self.placeholder[y - 1] if not self._rows and 0 < y <= len(self.placeholder) else ()
            return paint(self.palette, [("  ", ""), *line] if line else (), width)
        number, start = self._rows[at]
        line_ = self._line(number)
        following = self._rows[at + 1] if at + 1 < len(self._rows) else None
        end = following[1] if following is not None and following[0] == number else len(line_.text)
        spans = cut(line_.spans, start if self.wrapped else self._left, end)
        prefix = self._time(line_.at) if start == 0 else " " * self._time_width
        marked = mark(spans, self.needle) if self.needle else spans
        return paint(self.palette, [(prefix, "muted"), *marked], width)

    @property
    def _time_width(self) -> int:
        return {"off": 0, "clock": 9, "age": 8}[self.times]

    def _time(self, at: float | None) -> str:
        if self.times == "off":
            return ""
        if at is None:
            return " " * self._time_width
        if self.times == "clock":
            return time.strftime("%H:%M:%S ", time.localtime(at))
        age = max(0, int(self._clock() - at))
        text = (
            f"{age}s"
            if age < 100
            else f"{age // 60}m{age % 60:02d}s"
            if age < 6000
            else f"{age // 3600}h{age // 60 % 60:02d}m"
        )
        return f"{text:>7} "

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _scroll(self, y: int) -> None:
        last = max(0, len(self._rows) - self._height)
        y = max(0, min(y, last))
        self._set_following(y >= last)
        self.scroll_to(y=y, animate=False, immediate=True, force=True)
        self.refresh()

    def _set_following(self, following: bool) -> None:
        if following:
            self.unseen = 0
        if following != self.following:
            self.following = following
            self.post_message(self.Moved(self))

    def action_move(self, rows: int) -> None:
        """Scroll by rows; going up stops following."""
        self._scroll(self.scroll_offset.y + rows)

    def action_page(self, pages: int) -> None:
        """Scroll by windows."""
        self._scroll(self.scroll_offset.y + pages * max(1, self._height - 1))

    def action_edge(self, last: bool) -> None:
        """Go to the oldest or the newest line."""
        self._scroll(len(self._rows) if last else 0)

    def action_sideways(self, steps: int) -> None:
        """Go sideways in lines that are cut."""
        if not self.wrapped:
            self._left = max(0, self._left + steps * STEP)
            self.refresh()

    def action_follow(self) -> None:
        """Follow, or stay where one is."""
        if self.following:
            self._set_following(False)
        else:
            self.action_edge(True)

    def action_match(self, step: int) -> None:
        """Go to the next or the previous line with the text that is searched."""
        if not self.needle:
            return
        at = self.scroll_offset.y + step
        while 0 <= at < len(self._rows):
            if self.needle in self._line(self._rows[at][0]).text.casefold():
                self._scroll(at)
                return
            at += step

    def action_only_matches(self) -> None:
        """Hide the lines without the text that is searched, or show them again."""
        self.only = not self.only
        self._rebuild()

    def action_timestamps(self) -> None:
        """No times, the time of day, the age."""
        order: tuple[Times, ...] = ("off", "clock", "age")
        self.times = order[(order.index(self.times) + 1) % len(order)]
        self._rebuild()

    def action_wrap(self) -> None:
        """Break long lines, or cut them."""
        self.wrapped = not self.wrapped
        self._left = 0
        self._rebuild()

    def on_resize(self) -> None:
        """Another width breaks lines elsewhere."""
        if self.wrapped:
            self._rebuild()
        else:
            self._lay_out()

    def on_mouse_scroll_up(self) -> None:
        """The wheel stops following as the keys do."""
        self._set_following(False)


def cut(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    """The part of a line from one character to another."""
    found, at = [], 0
    for text, role in spans:
        piece = text[max(0, start - at) : max(0, end - at)]
        if piece:
            found.append((piece, role))
        at += len(text)
    return found


def mark(spans: Sequence[Span], needle: str) -> list[Span]:
    """The spans with every place of the needle, in any case, marked."""
    found: list[Span] = []
    for text, role in spans:
        folded, at = text.casefold(), 0
        if len(folded) != len(text):  # a letter that folds into two would shift the places
            folded = text.lower() if len(text.lower()) == len(text) else text
        hit = folded.find(needle)
        while hit >= 0:
            found += [(text[at:hit], role), (text[hit : hit + len(needle)], "accent reverse")]
            at = hit + len(needle)
            hit = folded.find(needle, at)
        found.append((text[at:], role))
    return [span for span in found if span[0]]
