"""One offer: what the price includes, who the host is, how the price of its class went. One rule: the band is honest.

The plot shows the median and the first quartile of every half hour; single observations only of the last 48 h.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from core.domain.errors import UnderstudyError
from core.domain.market import Offer, PriceHistory, class_of
from tui.actions import MARKET
from tui.bindings import bindings
from tui.render import market, prices
from tui.render.cells import Glyphs, Line, plain
from tui.screens.base import Panel
from tui.screens.confirm import Text
from tui.screens.curves import mode, plotted
from tui.screens.rent import RentSheet
from tui.widgets.plot import Plot

MONTH_S = 30 * 86_400.0
CAPTION_LINES = 4
KNOWN_FOR_S = 60.0
"""A history fetched so recently is not asked for again: its newest bucket changes twice an hour."""


def hours_ago(hours: float) -> str:
    """The x axis: `30d`, `12h`, `now`."""
    return "now" if hours > -1 else f"{-hours / 24:.0f}d" if hours <= -48 else f"{-hours:.0f}h"


def dollars(usd: float) -> str:
    return f"{usd:.3f}" if usd < 10 else f"{usd:.2f}"


class OfferDetail(Vertical):
    """The pane beside the market's table: facts, then the month of the class."""

    DEFAULT_CSS = """
    OfferDetail { width: 54; }
    OfferDetail > #facts { padding: 0 1; height: auto; max-height: 60%; }
    OfferDetail > #month { height: 1fr; min-height: 6; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "offer"  # it stays: a title that changed would paint the whole pane with every key
        self.offer: Offer | None = None
        self._seen: market.Context | None = None
        self._drawn: PriceHistory | None = None
        self._known: dict[str, tuple[float, PriceHistory]] = {}

    def compose(self) -> ComposeResult:
        yield Text([], id="facts")
        yield Text([], id="caption")
        yield Plot(mode=mode(self.app.has_class("-ascii")), figure=dollars, x_figure=hours_ago, id="month")

    def show(self, offer: Offer | None, context: market.Context) -> None:
        """The facts at once; the curve only when `load` is called: it would cost more than the cursor's own line."""
        self.offer, self._seen = offer, context
        lines = market.detail(offer, context) if offer is not None else [[("no offer under the cursor", "muted")]]
        self.query_one("#facts", Text).show(lines)
        self._caption([])
        if offer is None:
            self._history(None)

    def _caption(self, lines: list[Line]) -> None:
        """Always as many lines: a caption that grew would lay the pane out anew with every key."""
        self.query_one("#caption", Text).show([*lines, *([[]] * (CAPTION_LINES - len(lines)))])

    def load(self) -> None:
        """The history of the class, asked for unless it is known."""
        if self.offer is None or self._seen is None or not self.display:
            return
        price_class = class_of(self.offer)
        known = self._known.get(price_class)
        self._history(known[1] if known else None)
        if known is None or self._seen.now - known[0] > KNOWN_FOR_S:
            self.run_worker(self._load(price_class), group="history", exclusive=True)

    async def _load(self, price_class: str) -> None:
        panel = self.screen
        if not isinstance(panel, Panel):
            return
        try:
            history = await panel.console.engine.prices(price_class)
        except UnderstudyError as error:
            self._caption([[(plain(f" {error}", panel.glyphs), "warn")]])
            return
        self._known[price_class] = (panel.now, history)
        if self.offer is not None and class_of(self.offer) == price_class:
            self._history(history)

    def _history(self, history: PriceHistory | None) -> None:
        context, offer = self._seen, self.offer
        plot = self.query_one("#month", Plot)
        if history is None or context is None or offer is None:
            self._drawn = None
            plot.show(())
            self._caption([])
            return
        if history is not self._drawn:
            self._drawn = history
            plot.show(plotted(prices.series(history, context.now, MONTH_S)))
        self._caption(caption(offer, history, context.now, context.g))


def caption(offer: Offer, history: PriceHistory, now: float, g: Glyphs) -> list[Line]:
    """What stands over the plot."""
    lines: list[Line] = [[(" ", ""), (plain(class_of(offer), g), "title"), (plain(", $ per GPU-hour", g), "muted")]]
    lines += [[(" ", ""), *line] for line in prices.caption(history, now, g)]
    said = prices.verdict(offer.usd_per_gpu_hour, history)
    return lines if said is None else [*lines, [(" this one: " + said[0], said[1])]]


class OfferScreen(Panel):
    """One offer on the whole screen."""

    scene = "market"
    topics = frozenset({"connection", "hosts"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(MARKET)

    CSS = """
    OfferScreen #facts-pane { width: 58; padding: 0 1; }
    OfferScreen #histories { width: 1fr; }
    OfferScreen #caption { height: auto; }
    OfferScreen #month, OfferScreen #raw { height: 1fr; }
    OfferScreen.-narrow #one { layout: vertical; }
    OfferScreen.-narrow #facts-pane { width: 100%; height: auto; max-height: 50%; }
    OfferScreen.-narrow #histories { width: 100%; height: 1fr; }
    OfferScreen.-narrow #raw { display: none; }
    """

    def __init__(self, offer: Offer, disk_gb: float) -> None:
        super().__init__()
        self.offer = offer
        self.disk_gb = disk_gb
        self._history: PriceHistory | None = None
        self._problem = ""

    def body(self) -> ComposeResult:
        drawn = mode(self.console.ascii_only)
        with Horizontal(id="one"):
            with Vertical(classes="pane", id="facts-pane"):
                yield Text([], id="facts")
            with Vertical(id="histories"):
                yield Text([], id="caption")
                month = Plot(mode=drawn, figure=dollars, x_figure=hours_ago, id="month", classes="pane")
                month.border_title = "30 days, every half hour"
                month.placeholder = "no history of this class yet"
                yield month
                raw = Plot(mode=drawn, figure=dollars, x_figure=hours_ago, id="raw", classes="pane")
                raw.border_title = "48 h, every observation"
                raw.placeholder = "nothing observed yet"
                yield raw

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._load(), group="history", exclusive=True)

    def context(self) -> market.Context:
        return market.Context(self.now, self.disk_gb, self.model.state.hosts, self.glyphs)

    async def _load(self) -> None:
        try:
            self._history = await self.console.engine.prices(class_of(self.offer))
        except UnderstudyError as error:
            self._problem = f"{error} {error.hint}"
        self.paint()

    def changed(self, topics: frozenset[str]) -> None:
        del topics
        self.paint()

    def tick(self) -> None:
        self.paint()

    def paint(self) -> None:
        """Everything, from what is known."""
        self.query_one("#facts", Text).show(market.detail(self.offer, self.context()))
        g, history = self.glyphs, self._history
        if history is None:
            waiting = self._problem or "asking for the history of its class"
            self.query_one("#caption", Text).show([[(plain(" " + waiting, g), "warn" if self._problem else "muted")]])
            return
        self.query_one("#caption", Text).show(caption(self.offer, history, self.now, g))
        self.query_one("#month", Plot).show(plotted(prices.series(history, self.now, MONTH_S)))
        self.query_one("#raw", Plot).show(plotted([prices.raw_series(history, self.now)]))

    def action_rent(self) -> None:
        self.app.push_screen(RentSheet(self.offer, self.disk_gb))

    def row_name(self) -> str:
        return f"offer {self.offer.id}"

    def row_text(self) -> str:
        return market.as_text(self.offer, self.disk_gb)

    def row_json(self) -> str:
        return msgspec.json.encode(self.offer).decode()
