"""Text measured in terminal cells. Its one rule: a width here is what the terminal draws, wide glyphs included."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"


def width_of(text: str) -> int:
    """Cells that the text takes on the screen."""
    return len(text) if text.isascii() else cell_len(text)


def clip(text: str, width: int, *, middle: bool = False, ellipsis: str = ELLIPSIS) -> str:
    """The text in at most ``width`` cells; an ellipsis says that something is missing."""
    if width_of(text) <= width:
        return text
    if width <= 1:
        return set_cell_size(text, max(0, width))
    room = width - width_of(ellipsis)
    if not middle or room < 4:
        return set_cell_size(text, room) + ellipsis
    tail_cells = room // 2
    tail = text[-tail_cells:]
    while width_of(tail) > tail_cells:
        tail = tail[1:]
    return set_cell_size(text, room - width_of(tail)) + ellipsis + tail


def pad(text: str, width: int, align: str = "<", *, middle: bool = False, ellipsis: str = ELLIPSIS) -> str:
    """Exactly ``width`` cells of the text, padded or cut."""
    taken = width_of(text)
    if taken > width:
        text = clip(text, width, middle=middle, ellipsis=ellipsis)
        taken = width_of(text)
    spare = width - taken
    if spare <= 0:
        return text
    if align == ">":
        return " " * spare + text
    if align == "^":
        return " " * (spare // 2) + text + " " * (spare - spare // 2)
    return text + " " * spare
