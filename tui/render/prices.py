"""The price history of a class. One rule: a band and a count beside every line; never a bare minimum.

Raw observations of the last 48 h stand beside the 30-minute median and first quartile: one odd host moves a minimum,
and a median without its count hides that it was made of two offers.
"""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from core.domain.market import PriceHistory
from tui.render.cells import UNICODE, Glyphs, Line, age, money

BUCKET_S = 1800.0
COMPARED_MIN = 4
"""Offers of a class below which a quarter of them means nothing."""
RAW_S = 48 * 3600.0


class Series(NamedTuple):
    """A named curve: x in hours before now (negative), y in USD per GPU-hour; None is a gap."""

    name: str
    xs: list[float]
    ys: list[float | None]
    role: str


def series(history: PriceHistory, now: float, span_s: float) -> list[Series]:
    """Median and p25 over `span_s`, with a gap where a bucket is missing."""
    kept = [b for b in history.buckets if b.at >= now - span_s]
    xs: list[float] = []
    medians: list[float | None] = []
    lows: list[float | None] = []
    last: float | None = None
    for bucket in kept:
        if last is not None and bucket.at - last > 2 * BUCKET_S:
            xs.append((last + BUCKET_S - now) / 3600)
            medians.append(None)
            lows.append(None)
        xs.append((bucket.at - now) / 3600)
        medians.append(bucket.median)
        lows.append(bucket.p25)
        last = bucket.at
    return [Series("median", xs, medians, "plot-1"), Series("p25", xs, lows, "plot-2")]


def raw_series(history: PriceHistory, now: float) -> Series:
    """Single observations of the last 48 h, each alone: they are of different offers, a line between them would lie."""
    seen = sorted((at, usd) for at, usd, _ in history.raw if at >= now - RAW_S)
    xs = [(at - now) / 3600 for at, _ in seen for _ in range(2)]
    ys: list[float | None] = [y for _, usd in seen for y in (usd, None)]
    return Series("one offer", xs, ys, "plot-1")


def caption(history: PriceHistory, now: float, g: Glyphs = UNICODE) -> list[Line]:
    """The newest half hour with its count and age, then the range of what is kept; or that nothing is kept yet."""
    if not history.buckets:
        return [[("no history of this class yet", "muted")]]
    newest = history.buckets[-1]
    middles = [b.median for b in history.buckets]
    days = (now - history.buckets[0].at) / 86_400
    line: Line = [
        ("median ", "muted"),
        (money(newest.median, g), "plot-1"),
        ("  p25 ", "muted"),
        (money(newest.p25, g), "plot-2"),
        (f"  of {newest.count} offers, {age(now - newest.at, g)} old", "muted"),
    ]
    span = f"{days:.0f} d" if days >= 1 else f"{days * 24:.0f} h"
    change = change_24h(history, now)
    moved = "" if change is None else f", {change * 100:+.0f}% in 24 h"
    return [line, [(f"{span}: {money(min(middles), g)} to {money(max(middles), g)}{moved}", "muted")]]


def change_24h(history: PriceHistory, now: float) -> float | None:
    """The class's median now ÷ that of a day before, minus 1; None without both."""
    if not history.buckets:
        return None
    before = [b.median for b in history.buckets if abs(b.at - (now - 86_400)) <= 2 * BUCKET_S]
    return None if not before or median(before) <= 0 else history.buckets[-1].median / median(before) - 1


def verdict(usd_per_gpu_hour: float, history: PriceHistory) -> tuple[str, str] | None:
    """Where this price stands among the class's own last bucket."""
    if not history.buckets:
        return None
    newest = history.buckets[-1]
    if newest.count < COMPARED_MIN:
        return f"too few of its class to compare, {newest.count}", "muted"
    if usd_per_gpu_hour <= newest.p25:
        return "cheaper than three of four of its class", "good"
    if usd_per_gpu_hour <= newest.median:
        return "below the median of its class", ""
    over = usd_per_gpu_hour / newest.median - 1 if newest.median > 0 else 0.0
    return f"{over * 100:.0f}% above the median of its class", "warn"
