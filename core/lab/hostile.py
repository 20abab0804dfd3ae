"""What a hostile host would write into names and messages.

Its one rule: every sequence here has been used against real terminals.
"""

from __future__ import annotations

from typing import Any

CONTROL = (
    "\x1b]0;owned\x07",  # window title
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # clipboard
    "\x1b[2J\x1b[1;1H",  # clear and home
    "\x1b[?1049h",  # alternate screen
    "\x9b31m",  # CSI as one C1 byte
    "\u202egnihton\u202c",  # right-to-left override
    "\x08\x08\x08",  # backspaces
    "\r\nforged line",
    "[bold red]markup[/]",
)
_TEXT_FIELDS = ("geolocation", "cpu_name", "mobo_name", "disk_name", "status_msg", "gpu_name")
HOSTILE_TEXT = "".join(CONTROL)


def taint_rows(rows: list[dict[str, Any]]) -> None:
    """Put control sequences into the text of every row; GPU names and places keep their ends, so that filters still
    meet them.
    """
    for number, row in enumerate(rows):
        bad = CONTROL[number % len(CONTROL)]
        for field in _TEXT_FIELDS:
            if field in row:
                row[field] = bad + str(row[field] or "")


def spoil_rows(rows: list[dict[str, Any]], count: int) -> None:
    """Break `count` rows, each in another way that has been seen: a wrong type, a missing id, a null price, a string
    for a number.
    """
    ways = (
        (("dph_total", "not a number"),),
        (("id", None),),
        (("dph_total", None), ("dph_base", None)),
        (("num_gpus", "four"),),
    )
    for number, row in enumerate(rows[:count]):
        row.update(dict(ways[number % len(ways)]))
