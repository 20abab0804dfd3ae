"""Numbers as text: widths, missing values, both character sets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.render.cells import (
    ASCII,
    UNICODE,
    age,
    ago,
    bar,
    buckets,
    duration,
    gib,
    money,
    number,
    percent,
    plain,
    price,
    rate,
    share,
    size,
    spark,
    stale,
    track,
)

ANY = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-10, 10**12).map(float))


@pytest.mark.parametrize("say", [money, price, percent, duration, age, size, rate, gib, number])
def test_a_missing_value_is_a_dash_never_zero(say: object) -> None:
    for missing in (None, math.nan, math.inf):
        assert say(missing) == "–"  # type: ignore[operator]
        assert say(missing, g=ASCII) == "-"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.0, "0.00"), (0.0042, "0.0042"), (0.3491, "0.349"), (17.44, "17.44"), (1204.4, "1,204")],
)
def test_money(usd: float, text: str) -> None:
    assert money(usd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (12.4, "12 s"), (72, "1m12s"), (7500, "2h05m"), (273600, "3d04h"), (1e8, "1157d")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert len(text) <= 6


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "now"), (12, "12s"), (330, "5m"), (11_000, "3h"), (3.5e6, "40d")])
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_ago_is_a_sentence() -> None:
    assert [ago(0.1), ago(40), ago(None)] == ["just now", "40s ago", "–"]


@pytest.mark.parametrize(
    ("count", "text"), [(812, "812 B"), (4_200_000, "4.2 MB"), (18_200_000_000, "18 GB"), (999, "999 B")]
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text


@given(ANY, st.integers(0, 40))
def test_a_bar_is_as_wide_as_asked(part: float | None, width: int) -> None:
    assert len(bar(part, width)) == width
    assert len(bar(part, width, ASCII)) == width
    assert bar(part, width, ASCII).isascii()


@given(st.lists(ANY, max_size=80), st.integers(0, 30))
def test_a_curve_is_as_wide_as_asked(values: list[float | None], width: int) -> None:
    for g in (UNICODE, ASCII):
        assert len(spark(values, width, g)) == width
        assert len(spark(values, width, g, top=None)) == width


def test_a_gap_in_a_curve_is_a_blank() -> None:
    assert spark([0, None, 100], 3) == "▁ █"
    assert bar(None, 4) == "    "


def test_a_full_and_an_empty_bar() -> None:
    assert [bar(1.0, 3), bar(0.5, 3), bar(0.0, 3)] == ["███", "█▌ ", "   "]
    assert track(0.5, 4) == "██░░"


@given(st.integers(0, 10**9))
def test_a_bar_never_shrinks_when_the_share_grows(seed: int) -> None:
    one, other = sorted([(seed % 1000) / 1000, (seed // 1000 % 1000) / 1000])
    ramp = " ▏▎▍▌▋▊▉█"
    assert sum(ramp.index(c) for c in bar(one, 8)) <= sum(ramp.index(c) for c in bar(other, 8))


def test_share_is_between_nothing_and_all() -> None:
    assert [share(5, 10), share(20, 10), share(-1, 10), share(None, 10), share(1, 0)] == [0.5, 1.0, 0.0, None, None]


def test_old_means_three_periods() -> None:
    assert not stale(3.0, 1.0)
    assert stale(3.1, 1.0)
    assert stale(None, 1.0)


def test_buckets_are_means_with_gaps() -> None:
    points = [(0.0, 10.0), (5.0, 20.0), (59.0, 90.0), (60.0, 100.0)]
    assert buckets(points, 60.0, 60.0, 3) == [15.0, None, 95.0]


@given(st.text(max_size=40))
def test_the_ascii_set_is_ascii(text: str) -> None:
    assert plain(text, ASCII).isascii()
