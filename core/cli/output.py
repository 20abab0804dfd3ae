"""How a verb answers: a table for people, one line of JSON for programs. One rule: stdout carries the answer and
nothing else; errors, hints and progress go to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from core.domain.errors import UnderstudyError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# state or severity -> a colour of the terminal's own palette; meaning never by colour alone: the word stands there too
STYLES = {
    "running": "green",
    "ready": "green",
    "done": "green",
    "good": "green",
    "ok": "green",
    "renting": "cyan",
    "asked": "cyan",
    "booting": "cyan",
    "checking": "cyan",
    "suspect": "yellow",
    "warn": "yellow",
    "destroying": "yellow",
    "retiring": "yellow",
    "stopped": "yellow",
    "lost": "red",
    "failed": "red",
    "bad": "red",
    "retired": "dim",
    "destroyed": "dim",
    "cancelled": "dim",
}
NONE = "–"
_GAP = 2  # between two columns
_LAST_MIN = 6
_PIPE_COLUMNS = 1000  # a table that is piped is never cut


class Output:
    """`document` for a verb that answers once, `line` for a stream."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def document(self, value: Any, people: Callable[[], None] | None = None) -> None:
        """The verb's one answer: `value` as JSON, or what `people` prints."""
        if self.json:
            self.line(value)
        elif people is not None:
            people()

    def line(self, value: Any) -> None:
        import msgspec

        try:
            text = msgspec.json.encode(value).decode()
        except UnicodeEncodeError:  # a file's name that is no UTF-8
            text = msgspec.json.encode(_encodable(msgspec.to_builtins(value))).decode()
        sys.stdout.buffer.write(_escaped(text).encode() + b"\n")
        sys.stdout.buffer.flush()

    def say(self, text: str, style: str = "") -> None:
        """Lines for people on stdout; nothing with --json."""
        if not self.json:
            for line in text.split("\n"):
                self._console().print(_text(line, style), soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "", spare: Sequence[str] = ()
    ) -> None:
        """`columns`: their heads; one that begins with `>` is a column of numbers. `empty`: said when no row comes.

        Where the terminal is too narrow the `spare` columns go, first named first; then the last is cut, never another.
        """
        from rich.table import Table

        filled = [[_cell(value) for value in row] for row in rows]
        if not filled:
            self.say(empty, "dim")
            return
        console = self._console()
        shown, last_max = _fitting(columns, filled, console.width, spare)
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for index in shown:
            table.add_column(
                columns[index].lstrip(">"),
                justify="right" if columns[index].startswith(">") else "left",
                no_wrap=True,
                overflow="ellipsis",
                max_width=last_max if index == shown[-1] else None,
            )
        for cells in filled:
            table.add_row(*(cells[index] for index in shown))
        console.print(table)

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Name and value, one below the other."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(name, _cell(value))
        self._console().print(table)

    def note(self, text: str) -> None:
        """A line beside the answer, on stderr; nothing with --json."""
        if not self.json:
            print(text, file=sys.stderr, flush=True)

    def error(self, error: UnderstudyError) -> None:
        """One line and a hint; with --json the same as a document too."""
        print(f"{_red('error:')} {one_line(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"  {one_line(error.hint)}", file=sys.stderr)
        if self.json:
            self.line({"error": {"kind": error.kind, "message": str(error), "hint": error.hint}})

    def _console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def one_line(text: str) -> str:
    """Text on one line and without anything that drives a terminal."""
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else "·" for c in text)


def _fitting(columns: Sequence[str], rows: list[list[Text]], width: int, spare: Sequence[str]) -> tuple[list[int], int]:
    """(which columns are shown, how wide the last of them may be)."""
    widths = [max(len(c.lstrip(">")), *(row[i].cell_len for row in rows)) + _GAP for i, c in enumerate(columns)]
    shown = list(range(len(columns)))
    for name in spare:
        if sum(widths[i] for i in shown) > width:
            shown = [i for i in shown if columns[i].lstrip(">") != name]
    return shown, max(_LAST_MIN, width - sum(widths[i] for i in shown[:-1]) - _GAP)


def _encodable(value: Any) -> Any:
    """The same with `?` for every byte of a name that stands for no character."""
    if isinstance(value, dict):
        return {_encodable(k): _encodable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_encodable(v) for v in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """The same JSON with C1 controls and marks of direction as `\\uXXXX`: a terminal may be what reads it."""
    if text.isprintable():
        return text
    import json

    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _cell(value: Any) -> Text:
    text = NONE if value is None else str(value)
    return _text(text, STYLES.get(text, ""))


def _text(text: str, style: str) -> Text:
    """Never markup: what it says may come from outside."""
    from rich.text import Text

    return Text(one_line(text), style=style)


def _red(word: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return word
    return f"\x1b[31m{word}\x1b[0m"


def money(usd: float | None, digits: int = 3) -> str | None:
    return None if usd is None else f"${usd:.{digits}f}"


def seconds(value: float | None) -> str | None:
    """A span as people say it: `0.4 s`, `12 s`, `3 min`, `2 h 05`, `3 d`."""
    if value is None:
        return None
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    if value < 172800:
        return f"{int(value // 3600)} h {int(value % 3600 // 60):02d}"
    return f"{value / 86400:.0f} d"
