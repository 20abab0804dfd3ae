"""Bars and sparklines as strings. Its one rule: a known number of cells, and a missing value is blank, never zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

EIGHTHS = " ▏▎▍▌▋▊▉█"
RAMP = "▁▂▃▄▅▆▇█"
ASCII_RAMP = "_.-=+*%#"


def bar(share: float | None, width: int, *, ascii_only: bool = False, empty: str = " ") -> str:
    """``share`` from 0 to 1 as a bar of exactly ``width`` cells, to an eighth of a cell."""
    if share is None or not math.isfinite(share):
        return empty * width
    share = max(0.0, min(1.0, share))
    if ascii_only:
        full = round(share * width)
        return "#" * full + empty * (width - full)
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (EIGHTHS[rest] if rest else "")
    return text + empty * (width - len(text))


def sparkline(
    values: Sequence[float | None],
    width: int,
    *,
    low: float | None = None,
    high: float | None = None,
    ascii_only: bool = False,
) -> str:
    """The newest values as ``width`` cells, the newest at the right; gaps stay blank.

    More values than cells are taken together by their greatest, so that a peak is never lost. Without ``low`` and
    ``high`` the values' own range is used.
    """
    cells = newest(values, width)
    known = [value for value in cells if value is not None]
    if not known:
        return " " * width
    floor = min(known) if low is None else low
    span = (max(known) if high is None else high) - floor
    ramp = ASCII_RAMP if ascii_only else RAMP
    top = len(ramp) - 1
    text = "".join(
        " " if value is None else ramp[max(0, min(top, round((value - floor) / span * top))) if span > 0 else 0]
        for value in cells
    )
    return text.rjust(width)


def newest(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most ``width`` values: groups of equal size by their greatest, the newest group last."""
    clean = [value if value is not None and math.isfinite(value) else None for value in values]
    size = max(1, math.ceil(len(clean) / max(1, width)))
    groups = [clean[max(0, end - size) : end] for end in range(len(clean), 0, -size)][::-1]
    return [max((value for value in group if value is not None), default=None) for group in groups]
