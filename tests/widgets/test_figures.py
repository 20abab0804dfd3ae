"""Bars, curves, gauges and timelines: what they draw, cell by cell."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widget import Widget

from tui.widgets.bar import bar, newest, sparkline
from tui.widgets.gauge import Figure, Gauges
from tui.widgets.plot import BITS, Canvas, Marker, Plot, Series, draw, ranges
from tui.widgets.text import clip, pad, width_of
from tui.widgets.timeline import Stage, Timeline


class Bare(App[None]):
    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


def lines(app: App[None]) -> list[str]:
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def test_a_bar_is_true_to_an_eighth_and_blank_when_nothing_is_known() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(0.53, 4) == "██▏ "
    assert bar(None, 4) == bar(math.nan, 4) == "    "
    assert bar(7.0, 3) == "███"
    assert bar(0.5, 4, ascii_only=True, empty=".") == "##.."


@given(st.one_of(st.none(), st.floats()), st.integers(0, 60))
def test_a_bar_has_its_width_whatever_it_is_given(share: float | None, width: int) -> None:
    assert len(bar(share, width)) == width


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=200), st.integers(1, 60))
def test_a_sparkline_has_its_width_and_keeps_the_newest(values: list[float | None], width: int) -> None:
    assert len(sparkline(values, width)) == width
    assert len(newest(values, width)) <= width


def test_a_sparkline_keeps_peaks_and_gaps() -> None:
    assert sparkline([0, 9, 0, 0, 0, 0], 3) == "█▁▁"
    assert sparkline([0, None, 10], 4) == " ▁ █"
    assert sparkline([5, 5], 2, low=0, high=10) == "▅▅"


@given(st.text(max_size=60), st.integers(0, 40), st.sampled_from("<>^"))
def test_padded_text_fills_its_cells_exactly(text: str, width: int, align: str) -> None:
    if text.isprintable():
        assert width_of(pad(text, width, align)) == width
        assert width_of(clip(text, width, middle=True)) <= max(width, 0)


def test_a_spike_between_two_dot_columns_is_drawn() -> None:
    ys = [0.0] * 1000
    ys[503] = 100.0
    series = Series("x", range(1000), ys)
    canvas = Canvas(20, 5, "braille")
    span = ranges([series], None, None)
    assert span is not None
    draw(canvas, series, span, 1)
    assert any(canvas.bits[0])
    assert all(canvas.bits[4])


def test_sparse_points_are_joined_by_a_line_and_by_no_vertical_strokes() -> None:
    xs = [0.0, 25.0, 50.0, 75.0, 99.0]
    series = Series("x", xs, [40.0, 30.0, 20.0, 10.0, 0.0])
    canvas = Canvas(50, 10, "braille")
    span = ranges([series], None, None)
    assert span is not None
    draw(canvas, series, span, 1)
    for column in range(canvas.columns):
        cell, side = divmod(column, 2)
        dots = [row for row in range(40) if canvas.bits[row // 4][cell] & BITS[row % 4][side]]
        assert dots
        assert dots[-1] - dots[0] <= 2, f"a stroke of {dots} in dot column {column}"


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_curve_that_does_not_move_stands_in_the_middle_close_about_its_value(value: float) -> None:
    span = ranges([Series("x", [0, 1], [value, value])], None, None)
    assert span is not None
    assert span.high - value == pytest.approx(value - span.low)
    assert span.high - span.low == pytest.approx(value / 10)


def test_a_gap_is_not_bridged() -> None:
    series = Series("x", range(10), [1.0, 1.0, 1.0, None, None, None, None, 1.0, 1.0, 1.0])
    canvas = Canvas(10, 2, "ascii")
    span = ranges([series], 0.0, 2.0)
    assert span is not None
    draw(canvas, series, span, 1)
    drawn = ["".join(canvas.glyph(x, y) for x in range(10)) for y in range(2)]
    assert drawn[0] == "***    ***"


async def test_a_plot_has_axes_a_legend_and_named_marks() -> None:
    plot = Plot(mode="ascii", low=0.0, high=10.0)
    app = Bare(plot)
    async with app.run_test(size=(50, 12)) as pilot:
        plot.show([Series("train", range(11), range(11))], [Marker(5, "failover")])
        await pilot.pause()
        shown = lines(app)
        assert shown[0].startswith("  10 |")
        assert "failover" in shown[0]
        assert shown[-2] == "     +" + "-" * 44
        assert shown[-1].startswith("      0 ")
        assert "# train" in shown[-1]
        assert shown[-1].endswith("10")


async def test_a_plot_without_data_says_so() -> None:
    app = Bare(Plot())
    async with app.run_test(size=(50, 12)) as pilot:
        await pilot.pause()
        assert "no data yet" in "\n".join(lines(app))


async def test_gauges_align_and_change_height_with_their_number() -> None:
    gauges = Gauges(ascii_only=True)
    app = Bare(gauges)
    async with app.run_test(size=(30, 8)) as pilot:
        gauges.show([Figure("util", 0.5, "50 %"), Figure("memory", None, "-")])
        await pilot.pause()
        assert lines(app)[:2] == ["util   ########......... 50 %", "memory .................    -"]


STAGES = [
    Stage("ask", "done", 0.0, 1.0, "accepted as 4711"),
    Stage("boot", "done", 1.0, 5.0),
    Stage("check", "failed", 6.0, 2.0, "driver 470, advertised 550"),
    Stage("agent", "waiting"),
]


async def test_a_timeline_shows_each_stage_at_its_place_and_why_one_failed() -> None:
    timeline = Timeline(ascii_only=True)
    app = Bare(timeline)
    async with app.run_test(size=(50, 8)) as pilot:
        timeline.show(STAGES)
        await pilot.pause()
        shown = lines(app)
        assert shown[0].startswith(" * ask   ####")
        assert shown[1].startswith(" * boot  ----####")
        assert shown[2].startswith(" x check ")
        assert shown[3] == "    driver 470, advertised 550"
        assert shown[4] == " . agent"
        assert "5.0 s" in shown[1]
    assert timeline.as_text().splitlines()[0] == "ask  done  1.0 s  accepted as 4711"
