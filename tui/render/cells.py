"""Numbers, ages and glyphs as text. One rule: a value that is missing reads `–`, never 0 and never blank.

Every function is total: it takes what a hostile or silent driver may report (None, negative, NaN) and answers with text
of a known width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DASH = "–"
STALE_PERIODS = 3.0
"""A value older than this many of its periods is greyed (house.md, "How data flows")."""


class Cell(NamedTuple):
    """One cell: its text, the theme's role it is painted in, and its alignment (empty: the column's own)."""

    text: str
    role: str = ""
    align: str = ""


Span = tuple[str, str]
Line = list[Span]
"""A line of text in runs of (text, role)."""


@dataclass(frozen=True)
class Glyphs:
    """One character set. Every glyph is one cell wide and stands beside a word: meaning is never a glyph's alone."""

    run: str = "●"
    boot: str = "◐"
    stby: str = "○"
    risk: str = "▲"
    dead: str = "✖"
    ending: str = "◑"
    stranger: str = "?"
    info: str = "·"
    ramp: str = "▁▂▃▄▅▆▇█"
    eighths: str = " ▏▎▍▌▋▊▉"
    full: str = "█"
    light: str = "░"
    dash: str = DASH
    times: str = "×"
    degree: str = "°"
    per: str = "·"
    arrow: str = "→"
    ellipsis: str = "…"


UNICODE = Glyphs()
ASCII = Glyphs(
    run="*",
    boot="~",
    stby="o",
    risk="!",
    dead="x",
    ending="-",
    info=".",
    ramp="_.-=+*%#",
    eighths=" ",
    full="#",
    light=".",
    dash="-",
    times="x",
    degree="",
    per="-",
    arrow="->",
    ellipsis="~",
)

_ASCII_TEXT = str.maketrans(
    {"–": "-", "…": "~", "×": "x", "·": "-", "→": "->", "≥": ">=", "≤": "<=", "°": "", "●": "*", "▲": "!", "—": "-"}
)


def glyphs(ascii_only: bool) -> Glyphs:
    return ASCII if ascii_only else UNICODE


def plain(text: str, g: Glyphs) -> str:
    """The text in the character set in use; what it cannot say at all becomes `?`."""
    if g is not ASCII:
        return text
    return text.translate(_ASCII_TEXT).encode("ascii", "replace").decode("ascii")


def number(value: float | None, digits: int = 0, g: Glyphs = UNICODE) -> str:
    """With a comma every three digits."""
    return g.dash if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def money(usd: float | None, g: Glyphs = UNICODE) -> str:
    """USD without its sign, with as many digits as matter: 0.0042, 0.349, 17.44, 1,204."""
    if usd is None or not math.isfinite(usd):
        return g.dash
    amount = abs(usd)
    if amount < 0.00005:
        return "0.00"
    if amount < 0.01:
        return f"{usd:.4f}"
    if amount < 1:
        return f"{usd:.3f}"
    return f"{usd:.2f}" if amount < 1000 else f"{usd:,.0f}"


def dollars(usd: float | None, g: Glyphs = UNICODE) -> str:
    """A sum in USD without its sign, to the cent: 0.01, 17.44, 1,204."""
    if usd is None or not math.isfinite(usd):
        return g.dash
    return f"{usd:.2f}" if abs(usd) < 1000 else f"{usd:,.0f}"


def limit(usd: float | None, g: Glyphs = UNICODE) -> str:
    """A limit in USD without its sign: whole dollars where it is whole."""
    if usd is None or not math.isfinite(usd):
        return g.dash
    return f"{usd:,.0f}" if usd == int(usd) else f"{usd:,.2f}"


def price(usd: float | None, g: Glyphs = UNICODE) -> str:
    """USD per hour for a column: always three decimals, so that the points stand under each other."""
    return g.dash if usd is None or not math.isfinite(usd) else f"{usd:,.3f}"


def percent(value: float | None, g: Glyphs = UNICODE) -> str:
    """A share of 100, without the sign: the header says it."""
    return g.dash if value is None or not math.isfinite(value) else f"{value:.0f}"


def duration(seconds: float | None, g: Glyphs = UNICODE) -> str:
    """At most six cells, the two units that matter: 0.8 s, 12 s, 1m12s, 2h05m, 3d04h."""
    if seconds is None or not math.isfinite(seconds):
        return g.dash
    s = max(0.0, seconds)
    if s < 9.95:
        return f"{s:.1f} s"
    if s < 60:
        return f"{s:.0f} s"
    whole = int(s)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    days = whole // 86_400
    return f"{days}d{whole % 86_400 // 3600:02d}h" if days < 100 else f"{days}d"


def age(seconds: float | None, g: Glyphs = UNICODE) -> str:
    """One unit, at most four cells: `now`, 12s, 5m, 3h, 40d. For columns; `duration` is the exact form."""
    if seconds is None or not math.isfinite(seconds):
        return g.dash
    s = max(0.0, seconds)
    if s < 1:
        return "now"
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if s < limit:
            return f"{int(s // unit)}{name}"
    return f"{min(9999, int(s // 86_400))}d"


def ago(seconds: float | None, g: Glyphs = UNICODE) -> str:
    """An age in a sentence: `just now`, `12s ago`."""
    text = age(seconds, g)
    return "just now" if text == "now" else text if text == g.dash else f"{text} ago"


def stale(age_s: float | None, period_s: float) -> bool:
    """Whether a value of this age says nothing of now: older than three of its periods, or never seen."""
    return age_s is None or age_s > STALE_PERIODS * period_s


def size(count: float | None, g: Glyphs = UNICODE) -> str:
    """Bytes in decimal units, five cells and the unit: 812 B, 4.2 MB, 18 GB."""
    if count is None or not math.isfinite(count) or count < 0:
        return g.dash
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} PB"


def rate(bps: float | None, g: Glyphs = UNICODE) -> str:
    """Bytes per second."""
    text = size(bps, g)
    return text if text == g.dash else text + "/s"


def gib(mib: float | None, g: Glyphs = UNICODE) -> str:
    """Memory in whole GiB, without the unit."""
    return g.dash if mib is None or not math.isfinite(mib) else f"{mib / 1024:.0f}"


def share(part: float | None, whole: float | None) -> float | None:
    """part ÷ whole, between 0 and 1; None where either is missing or the whole is nothing."""
    if part is None or whole is None or not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0:
        return None
    return min(1.0, max(0.0, part / whole))


def bar(part: float | None, width: int, g: Glyphs = UNICODE) -> str:
    """A share of 1 as a bar of exactly `width` cells, in eighths of a cell where the set has them; None is empty."""
    if part is None or not math.isfinite(part) or width <= 0:
        return " " * max(0, width)
    steps = len(g.eighths)
    filled = round(min(1.0, max(0.0, part)) * width * steps)
    text = g.full * (filled // steps) + (g.eighths[filled % steps] if filled % steps else "")
    return text.ljust(width)


def track(part: float | None, width: int, g: Glyphs = UNICODE) -> str:
    """A bar whose rest is drawn too, for budgets: ██▌░░░."""
    filled = 0 if part is None else round(min(1.0, max(0.0, part)) * width)
    return g.full * filled + g.light * (width - filled)


def spark(values: Sequence[float | None], width: int, g: Glyphs = UNICODE, top: float | None = 100.0) -> str:
    """The newest `width` values as a curve of exactly that many cells, oldest left; a gap is a blank.

    `top` is the value of the highest glyph, the lowest is 0; None takes the values' own range.
    """
    shown = list(values[-width:]) if width > 0 else []
    real = [v for v in shown if v is not None and math.isfinite(v)]
    low = 0.0 if top is not None or not real else min(real)
    high = top if top is not None else max(real, default=1.0)
    return "".join(_level(v, low, high, g) for v in shown).rjust(max(0, width))


def _level(value: float | None, low: float, high: float, g: Glyphs) -> str:
    if value is None or not math.isfinite(value):
        return " "
    if high <= low:
        return g.ramp[0]
    at = (value - low) / (high - low) * (len(g.ramp) - 1)
    return g.ramp[max(0, min(len(g.ramp) - 1, round(at)))]


def buckets(points: Sequence[tuple[float, float | None]], now: float, span_s: float, count: int) -> list[float | None]:
    """Points (at, value) of the last `span_s` as `count` means, oldest first; a bucket without a value is a gap."""
    sums, numbers = [0.0] * count, [0] * count
    for at, value in points:
        place = int((at - (now - span_s)) / span_s * count) if span_s > 0 else -1
        if at == now:
            place = count - 1
        if value is not None and 0 <= place < count:
            sums[place] += value
            numbers[place] += 1
    return [s / n if n else None for s, n in zip(sums, numbers, strict=True)]


def clock(at: float | None, g: Glyphs = UNICODE) -> str:
    """Local time of day, hh:mm:ss."""
    return g.dash if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def day(at: float | None, g: Glyphs = UNICODE) -> str:
    """Local date and minute, `22 Nov 12:04`."""
    return g.dash if at is None else time.strftime("%d %b %H:%M", time.localtime(at))


def width(line: Iterable[Span]) -> int:
    """Characters of a line; every glyph of ours is one cell wide."""
    return sum(len(text) for text, _ in line)


def joined(parts: Iterable[Line], gap: str = "  ") -> Line:
    """Lines put one after the other with a gap between those that are not empty."""
    out: Line = []
    for part in parts:
        if part:
            out += [(gap, ""), *part] if out else part
    return out
