"""A table of any length on the line API. Its one rule: a paint costs the visible lines that changed, not the rows.

The owner keeps the rows in a `Source`, sorts and filters them itself, and calls `data_changed`. The cursor and the
marks belong to row keys, not to line numbers: they stay on the same thing when the order changes under them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

from rich.segment import Segment
from textual import events
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.widgets.columns import CellLike, Column, Placed, Source, fit, total_width
from tui.widgets.styles import Span, Themed, paint
from tui.widgets.text import pad

FREEZE_S = 1.0
"""How long after the last key the order of rows should hold still: rows must not run away under the cursor."""
STRIPS_KEPT = 512
"""Painted lines remembered: a few windows' worth."""
WIDE_STEP = 8
"""Cells per sideways step in wide mode."""
GUTTER = 1
"""The cell at the left edge that shows a mark."""


class VTable(Themed, ScrollView, can_focus=True, inherit_bindings=False):
    """The virtual table. It binds no key itself: a subclass in the product does, for the ``action_*`` methods here."""

    DEFAULT_CSS = """
    VTable { height: 1fr; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    class Said(Message):
        """What a table tells its owner."""

        def __init__(self, table: VTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> VTable:
            """The table, for selectors in handlers."""
            return self.table

    class Highlighted(Said):
        """The cursor came to another row; ``key`` is None in an empty table."""

        def __init__(self, table: VTable, key: Hashable | None) -> None:
            super().__init__(table)
            self.key = key

    class Opened(Highlighted):
        """Enter or a double click on a row."""

    class Sorted(Said):
        """The operator asks for another order; the owner sorts and calls `show_sort` and `data_changed`."""

        def __init__(self, table: VTable, column: str, descending: bool) -> None:
            super().__init__(table)
            self.column = column
            self.descending = descending

    def __init__(
        self,
        columns: Sequence[Column],
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        ascii_only: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = list(columns)
        self.source = source
        self.ascii_only = ascii_only
        self.marks: set[Hashable] = set()
        self.placeholder: Sequence[Sequence[Span]] = ()
        """Lines shown in the middle while there are no rows: the owner says why."""
        self.wide = False
        self.sort_column = ""
        self.sort_descending = False
        self.paint_lines = 0
        """Lines built so far; tests hold it to two a key."""
        self._clock = clock
        self._last_key_s = float("-inf")
        self._cursor = 0
        self._cursor_key: Hashable | None = None
        self._placed: list[Placed] = []
        self._strips: LRUCache[Hashable, Strip] = LRUCache(STRIPS_KEPT)
        self._painted: dict[int, tuple[Hashable, Hashable]] = {}

    # -- what the owner calls ----------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """Line of the cursor, 0 in an empty table."""
        return self._cursor

    @property
    def cursor_key(self) -> Hashable | None:
        """Key of the row under the cursor, None in an empty table."""
        return self._cursor_key

    @property
    def frozen(self) -> bool:
        """Whether the owner should leave the order of rows alone for now."""
        return self._clock() - self._last_key_s < FREEZE_S

    def chosen(self) -> list[Hashable]:
        """The marked rows in their order, else the row under the cursor."""
        if self.marks:
            return [key for key in map(self.source.row_key, range(len(self.source))) if key in self.marks]
        return [] if self._cursor_key is None else [self._cursor_key]

    def data_changed(self, *, reordered: bool = False) -> None:
        """The source moved on: repaint the visible lines that differ, and keep the cursor on its row.

        ``reordered`` says that rows may have come, gone or changed places; without it only stamps are compared.
        """
        if reordered:
            self._follow_rows()
        elif self._cursor_key is None and len(self.source):
            self._land(0)
        if self.virtual_size.height != len(self.source) + 1:
            self._sync_size()
        if self.is_attached:
            self._refresh_changed()

    def set_source(self, source: Source) -> None:
        """Show another source; the cursor stays on its key where that has one."""
        self.source = source
        self._forget_lines()
        self.data_changed(reordered=True)
        self.refresh()

    def show_sort(self, column: str, descending: bool) -> None:
        """Put the sort glyph on a column's header."""
        if (column, descending) != (self.sort_column, self.sort_descending):
            self.sort_column, self.sort_descending = column, descending
            self.refresh(Region(0, 0, self.size.width, 1))

    def move_to_key(self, key: Hashable) -> bool:
        """Put the cursor on the row with this key; False where there is none."""
        index = self._index_of(key)
        if index is None:
            return False
        self._move_cursor(index)
        return True

    def fit_columns(self) -> None:
        """Choose the columns again, after a change of width or of ``columns``."""
        width = self.scrollable_content_region.width or self.size.width
        self._placed = fit(self.columns, max(0, width - GUTTER), wide=self.wide)
        self._forget_lines()
        self._sync_size()

    # -- keeping up with rows ------------------------------------------------------------------------------------------

    def _index_of(self, key: Hashable) -> int | None:
        """Line of a key: looked for near the cursor first, since rows seldom travel far."""
        size, here, row_key = len(self.source), self._cursor, self.source.row_key
        for distance in range(max(here, size - here) + 1):
            for index in (here - distance, here + distance):
                if 0 <= index < size and row_key(index) == key:
                    return index
        return None

    def _follow_rows(self) -> None:
        size = len(self.source)
        if self._cursor_key is not None:
            found = self._index_of(self._cursor_key)
            if found is not None:
                self._land(found)
                return
        self._land(min(self._cursor, max(0, size - 1)))

    def _land(self, index: int) -> None:
        """Set the cursor without moving the window more than needed to keep it in view."""
        before, self._cursor = self._cursor, index
        key = self.source.row_key(index) if index < len(self.source) else None
        self._refresh_rows(*{before, index} if before != index else ())
        if key != self._cursor_key:
            self._cursor_key = key
            self.post_message(self.Highlighted(self, key))
            self._refresh_rows(index)
        self._show_cursor(before)

    def _refresh_changed(self) -> None:
        top, source, painted = self.scroll_offset.y, self.source, self._painted
        size = len(source)
        dirty: list[int] = []
        for index in range(top, top + max(0, self._window_height)):
            now = (source.row_key(index), source.stamp(index)) if index < size else None
            if painted.get(index) != now:
                dirty.append(index)
        self._refresh_rows(*dirty)

    def _refresh_rows(self, *rows: int) -> None:
        top, height, width = self.scroll_offset.y, self._window_height, self.size.width
        regions = [Region(0, row - top + 1, width, 1) for row in rows if 0 <= row - top < height]
        if regions:
            self.refresh(*regions)

    def _forget_lines(self) -> None:
        self._strips.clear()
        self._painted.clear()

    @property
    def _window_height(self) -> int:
        return self.scrollable_content_region.height - 1

    def _sync_size(self) -> None:
        width = GUTTER + total_width(self._placed) if self.wide else 1
        self.virtual_size = Size(max(1, width), len(self.source) + 1)
        if not len(self.source):
            self._painted.clear()
            self.refresh()

    # -- painting ------------------------------------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        """The theme changed: every remembered line is wrong."""
        self._forget_lines()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One line: the header, a row, or what an empty table says."""
        width = self.size.width
        if y == 0:
            return self._header(width)
        index = self.scroll_offset.y + y - 1
        if index < len(self.source):
            return self._row(index, width)
        self._painted.pop(index, None)
        return self._placeholder_line(y, width)

    def _header(self, width: int) -> Strip:
        spans: list[Span] = [(" " * GUTTER, "head")]
        glyph = ("v" if self.sort_descending else "^") if self.ascii_only else ("↓" if self.sort_descending else "↑")
        for placed in self._placed:
            column, room = placed.column, placed.width
            sorted_by = column.key == self.sort_column
            label = column.label[: max(0, room - 1)] + glyph if sorted_by else column.label
            role = "head accent" if sorted_by else "head"
            spans.append((pad(label, room, column.align, ellipsis="") + " ", role))
        left = self.scroll_offset.x
        strip = paint(self.palette, spans, max(width + left, self.virtual_size.width), "head-bg")
        return strip.crop(left, left + width)

    def _placeholder_line(self, y: int, width: int) -> Strip:
        lines = self.placeholder
        first = 1 + max(1, (self.size.height - 1 - len(lines)) // 3)
        if len(self.source) or not first <= y < first + len(lines):
            return Strip.blank(width, self.palette.style(""))
        line = lines[y - first]
        taken = sum(len(text) for text, _ in line)
        return paint(self.palette, [(" " * max(1, (width - taken) // 2), ""), *line], width)

    def _row(self, index: int, width: int) -> Strip:
        key, stamp = self.source.row_key(index), self.source.stamp(index)
        background = ("select" if self.has_focus else "select-blur") if index == self._cursor else ""
        odd, marked, left = index & 1, key in self.marks, self.scroll_offset.x
        memo = (key, stamp, odd, background, marked, left, width)
        strip = self._strips.get(memo)
        if strip is None:
            self.paint_lines += 1
            strip = self._build(self.source.cells(index), background or ("zebra" if odd else ""), marked, left, width)
            self._strips[memo] = strip
        self._painted[index] = (key, stamp)
        return strip

    def _build(self, cells: Sequence[CellLike], background: str, marked: bool, left: int, width: int) -> Strip:
        style = self.palette.style
        mark = ("*" if self.ascii_only else "▌") if marked else " "
        ellipsis = "~" if self.ascii_only else "…"
        segments = [Segment(mark, style("mark", background))]
        for placed in self._placed:
            text, role, align = cells[placed.index]
            column = placed.column
            filled = pad(text, placed.width, align or column.align, middle=column.middle, ellipsis=ellipsis)
            segments.append(Segment(filled + " ", style(role, background)))
        return Strip(Segment.simplify(segments)).crop_extend(left, left + width, style("", background))

    # -- moving --------------------------------------------------------------------------------------------------------

    def _move_cursor(self, index: int) -> None:
        """A move by the operator: the order of rows holds still for a while after it."""
        self._last_key_s = self._clock()
        size = len(self.source)
        if size:
            self._land(max(0, min(index, size - 1)))

    def _show_cursor(self, before: int) -> None:
        """Bring the cursor into view. A step over the edge jumps half a page: a terminal has no cheap scroll."""
        height, top = self._window_height, self.scroll_offset.y
        if height <= 0 or top <= self._cursor < top + height:
            return
        whole = 0 if self._cursor < top else height - 1
        target = self._cursor - (height // 2 if abs(self._cursor - before) <= 1 else whole)
        self._painted.clear()
        self.scroll_to(y=max(0, min(target, len(self.source) - height)), animate=False, immediate=True, force=True)

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self._move_cursor(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by windows."""
        self._move_cursor(self._cursor + pages * max(1, self._window_height - 1))

    def action_edge(self, last: bool) -> None:
        """Go to the first or the last row."""
        self._move_cursor(len(self.source) - 1 if last else 0)

    def action_open(self) -> None:
        """Open the row under the cursor."""
        if self._cursor_key is not None:
            self.post_message(self.Opened(self, self._cursor_key))

    def action_mark(self) -> None:
        """Mark the row or take its mark away, and go on to the next."""
        if self._cursor_key is not None:
            self.marks ^= {self._cursor_key}
            self._refresh_rows(self._cursor)
            self._move_cursor(self._cursor + 1)

    def action_invert_marks(self) -> None:
        """Mark what was not marked."""
        self.marks = {self.source.row_key(index) for index in range(len(self.source))} - self.marks
        self._last_key_s = self._clock()
        self.refresh()

    def action_sort_next(self) -> None:
        """Ask for the next sortable column."""
        keys = [column.key for column in self.columns if column.sortable]
        if keys:
            at = keys.index(self.sort_column) + 1 if self.sort_column in keys else 0
            self.post_message(self.Sorted(self, keys[at % len(keys)], self.sort_descending))

    def action_sort_reverse(self) -> None:
        """Ask for the other direction."""
        if self.sort_column:
            self.post_message(self.Sorted(self, self.sort_column, not self.sort_descending))

    def action_wide(self) -> None:
        """Show every column, whatever the width; left and right then go sideways."""
        self.wide = not self.wide
        self.fit_columns()
        self.scroll_to(x=0, animate=False, immediate=True, force=True)
        self.refresh()

    def action_sideways(self, steps: int) -> None:
        """Go sideways in wide mode."""
        if self.wide:
            self._painted.clear()
            self.scroll_to(x=self.scroll_offset.x + steps * WIDE_STEP, animate=False, immediate=True, force=True)

    # -- events --------------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Another width: other columns."""
        self.fit_columns()
        self._show_cursor(self._cursor)
        self.refresh()

    def on_mount(self) -> None:
        """Start with the cursor on the first row."""
        self.data_changed(reordered=True)

    def watch_has_focus(self, has_focus: bool) -> None:
        """The cursor line looks different with the focus."""
        super().watch_has_focus(has_focus)
        self._refresh_rows(self._cursor)

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a double click opens, a click on the header sorts."""
        if event.y > 0:
            index = self.scroll_offset.y + event.y - 1
            if index < len(self.source):
                self._move_cursor(index)
                if event.chain == 2:
                    self.action_open()
            return
        edge = GUTTER - self.scroll_offset.x
        for placed in self._placed:
            edge += placed.width + 1
            if event.x < edge:
                if placed.column.sortable:
                    same = placed.column.key == self.sort_column
                    self.post_message(self.Sorted(self, placed.column.key, same and not self.sort_descending))
                return
