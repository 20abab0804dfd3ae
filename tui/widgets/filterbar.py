"""The filter in use, as a line. Its one rule: while rows are hidden, the screen says how many are shown of how many."""

from __future__ import annotations

from collections.abc import Iterable

from tui.widgets.styles import Painted, Span


class FilterChip(Painted):
    """One line, there only while there is a filter."""

    DEFAULT_CSS = "FilterChip { height: 1; display: none; background: $background; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said: tuple[Span, ...] = ()

    def show(self, text: str, shown: int, total: int, complaint: str = "") -> None:
        """Say what is filtered; no text takes the line away."""
        said: tuple[Span, ...] = ()
        if text:
            said = ((" / ", "key bold"), (text, "bold"), (f"  {shown:,}/{total:,}", "muted"))
            said += ((f"  {complaint}", "warn"),) if complaint else (("  esc clears", "muted"),)
        if said != self._said:
            self._said = said
            self.display = bool(said)
            self.refresh()

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        del y, width
        return self._said
