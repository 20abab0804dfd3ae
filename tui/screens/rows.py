"""The rows of a live table. One rule: while the operator moves among them, they keep their places."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from tui.widgets.columns import CellLike


class Rows:
    """Keys in their order; what a row looks like is asked for when it is painted."""

    def __init__(self, stamp: Callable[[str], Hashable], cells: Callable[[str], Sequence[CellLike]]) -> None:
        self.keys: list[str] = []
        self._stamp = stamp
        self._cells = cells

    def __len__(self) -> int:
        return len(self.keys)

    def row_key(self, index: int) -> str:
        return self.keys[index]

    def stamp(self, index: int) -> Hashable:
        return self._stamp(self.keys[index])

    def cells(self, index: int) -> Sequence[CellLike]:
        return self._cells(self.keys[index])

    def put(self, keys: list[str], *, frozen: bool) -> bool:
        """Takes the new order; while `frozen`, rows that stay keep their places and new ones come last.

        True when a row came, went or moved.
        """
        if frozen and self.keys:
            alive = set(keys)
            kept = [key for key in self.keys if key in alive]
            known = set(kept)
            keys = kept + [key for key in keys if key not in known]
        if keys == self.keys:
            return False
        self.keys = keys
        return True
