"""What a table column is, and which columns fit. Its one rule: arithmetic without a toolkit; a layout is a list."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

GAP = 1
"""Empty cells after each column."""

CellLike = tuple[str, str, str]
"""(text, role, align): role names a colour of the theme and may add words such as ``bold``; align is ``<``, ``>``,
``^``, or empty for the column's own."""


class Source(Protocol):
    """What a table shows. The table calls it for visible rows only.

    ``stamp`` must change exactly when ``cells`` would: it is the row's own version, not the frame number, so that a row
    that did not change costs nothing.
    """

    def __len__(self) -> int: ...

    def row_key(self, index: int) -> Hashable: ...

    def stamp(self, index: int) -> Hashable: ...

    def cells(self, index: int) -> Sequence[CellLike]: ...


class Column(NamedTuple):
    """One column. ``priority`` 0 never drops; the greatest drops first. ``flex`` is its share of the spare width."""

    key: str
    label: str
    width: int
    align: str = "<"
    priority: int = 0
    flex: int = 0
    max_width: int = 0
    """Upper bound for a flexible column, 0 for none."""
    sortable: bool = True
    middle: bool = False
    """Cut long text in the middle (ids, paths) rather than at the end (names)."""


@dataclass(frozen=True)
class Placed:
    """A column with the width it got and the place of its cell in the source's row."""

    index: int
    column: Column
    width: int


def total_width(columns: Sequence[Placed]) -> int:
    """Cells that these columns take, gaps included."""
    return sum(placed.width + GAP for placed in columns)


def fit(columns: Sequence[Column], width: int, *, wide: bool = False) -> list[Placed]:
    """The columns that fit into ``width`` cells, in order, with the spare width shared out.

    ``wide`` drops none, and the table is then wider than its window. Columns of priority 0 stay even where they do not
    fit: what cannot be seen is cut at the right edge, it does not vanish.
    """
    chosen = [Placed(index, column, column.width) for index, column in enumerate(columns)]
    while not wide and total_width(chosen) > width:
        victim = max(chosen, key=lambda placed: (placed.column.priority, placed.index), default=None)
        if victim is None or victim.column.priority == 0:
            break
        chosen.remove(victim)
    return _share(chosen, width - total_width(chosen))


def _share(chosen: list[Placed], spare: int) -> list[Placed]:
    """Give the spare cells to flexible columns by weight; what a bounded column cannot take goes to the others."""
    widths = {placed.index: placed.width for placed in chosen}
    open_ones = [placed for placed in chosen if placed.column.flex]
    while spare > 0 and open_ones:
        weight = sum(placed.column.flex for placed in open_ones)
        given = 0
        for placed in open_ones:
            want = max(1, spare * placed.column.flex // weight)
            if placed.column.max_width:
                want = min(want, placed.column.max_width - widths[placed.index])
            want = max(0, min(want, spare - given))
            widths[placed.index] += want
            given += want
        if given == 0:
            break
        spare -= given
        open_ones = [p for p in open_ones if not p.column.max_width or widths[p.index] < p.column.max_width]
    return [Placed(placed.index, placed.column, widths[placed.index]) for placed in chosen]
