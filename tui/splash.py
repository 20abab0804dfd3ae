"""The first picture, before anything is imported. Its one rule: plain escapes and next to no imports.

Importing the toolkit takes most of the start; a title and a word of what is going on stand in the meantime. The toolkit
then takes the screen over; where it never does, `take_back` restores it.
"""

from __future__ import annotations

import os
import sys


def paint(title: str = "Understudy", word: str = "opening the console") -> bool:
    """Paint it when standard output is a terminal; True when it was."""
    if not sys.stdout.isatty():
        return False
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return False
    at = max(1, (columns - len(word)) // 2)
    bar = f" {title}"[:columns].ljust(columns)
    picture = f"\x1b[?1049h\x1b[?25l\x1b[H\x1b[7m{bar}\x1b[0m\x1b[{max(2, rows // 2)};{at}H\x1b[2m{word}\x1b[0m"
    sys.stdout.write(picture)
    sys.stdout.flush()
    return True


def take_back() -> None:
    """Give the terminal its own screen and cursor back."""
    sys.stdout.write("\x1b[?1049l\x1b[?25h")
    sys.stdout.flush()
