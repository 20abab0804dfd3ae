"""A measured figure and how it reads. One rule: an aim that is missed is said with its figure, never moved."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """`value` against `aim` ("<=", ">=" or "==" and a number); `n` samples, their median and 95th percentile."""

    value: float
    unit: str
    aim: str
    n: int
    p50: float
    p95: float
    note: str = ""

    @property
    def met(self) -> bool:
        sign, _, number = self.aim.partition(" ")
        limit = float(number)
        return {"<=": self.value <= limit, ">=": self.value >= limit, "==": self.value == limit}[sign]


def median_of(samples: Sequence[float], unit: str, aim: str, note: str = "") -> Figure:
    """The figure whose value is the median of these samples."""
    ordered = sorted(samples)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    middle = round(statistics.median(ordered), 3)
    return Figure(value=middle, unit=unit, aim=aim, n=len(ordered), p50=middle, p95=round(p95, 3), note=note)


def count_of(value: float, unit: str, aim: str, n: int, note: str = "") -> Figure:
    """A figure that is counted, not sampled."""
    return Figure(value=value, unit=unit, aim=aim, n=n, p50=value, p95=value, note=note)
