"""Panel 2: what can be rented now. One rule: ten thousand offers cost what is visible; a filter works in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from core.domain.errors import UnderstudyError
from core.domain.market import Offer
from core.domain.workspaces import DEFAULT_DISK_GB
from tui import filters, subjects
from tui.actions import MARKET
from tui.bindings import bindings
from tui.render import conditions
from tui.render import market as render
from tui.render.cells import Cell, Line, stale
from tui.screens.base import Panel
from tui.screens.confirm import Text
from tui.screens.offer import OfferDetail, OfferScreen
from tui.screens.panes import Table
from tui.screens.rent import RentSheet
from tui.screens.rows import Rows
from tui.widgets.columns import Column
from tui.widgets.vtable import VTable

COLUMNS = (
    Column("gpu", "GPU", 15),
    Column("n", "N", 2, ">"),
    Column("price", "$/GPUh", 7, ">"),
    Column("all", "ALL-IN", 7, ">", priority=3),
    Column("kind", "KIND", 6),
    Column("from", "FROM", 6, priority=7),
    Column("region", "REGION", 10, priority=2, flex=1, max_width=20),
    Column("rel", "REL %", 5, ">", priority=5),
    Column("host", "HOST", 7, priority=4),
    Column("vram", "GiB", 4, ">", priority=8),
    Column("value", "TF/$", 5, ">", priority=6),
    Column("cpu", "CPU", 4, ">", priority=9),
    Column("ram", "RAM", 4, ">", priority=10),
    Column("disk", "DISK", 5, ">", priority=11),
    Column("net", "Mb/s", 5, ">", priority=12),
    Column("age", "AGE", 4, ">", priority=1),
)
SIDE_FROM = 120
"""Columns from which the detail stands beside the table."""
SLICE = 2_000
"""Offers filtered before the loop gets a turn: about 5 ms."""
REST_S = 0.15
"""How long the cursor rests on a row before the detail shows it; a held key comes oftener."""


class Market(Panel):
    """All offers."""

    scene = "market"
    topics = frozenset({"markets", "hosts", "connection", "providers"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(MARKET)

    CSS = """
    Market #providers { height: 1; }
    Market #market { height: 1fr; }
    Market #offers { width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows(self.stamp, self.cells)
        self.offers: dict[str, Offer] = {}
        self.filter = filters.EVERYTHING
        self.sort, self.descending = "price", False
        self.disk_gb = DEFAULT_DISK_GB
        self._subjects: dict[str, filters.Subject] = {}
        self._fetched: tuple[tuple[str, int], ...] = ()
        self._problem: UnderstudyError | None = None
        self._resting: asyncio.TimerHandle | None = None

    def body(self) -> ComposeResult:
        yield Text([], id="providers")
        with Horizontal(id="market"):
            table = Table(
                COLUMNS, self.rows, clock=self.console.clock.monotonic, ascii_only=self.console.ascii_only, id="offers"
            )
            table.add_class("pane")
            yield table
            yield OfferDetail(id="offer")

    @property
    def table(self) -> Table:
        return self.query_one("#offers", Table)

    def on_mount(self) -> None:
        super().on_mount()
        self.table.show_sort(self.sort, self.descending)
        self._fit(self.app.size.width)

    def on_resize(self) -> None:
        self._fit(self.app.size.width)

    def _fit(self, width: int) -> None:
        self.query_one(OfferDetail).display = width >= SIDE_FROM

    # -- rows ----------------------------------------------------------------------------------------------------------

    def context(self) -> render.Context:
        return render.Context(self.now, self.disk_gb, self.model.state.hosts, self.glyphs)

    def stamp(self, key: str) -> Hashable:
        offer = self.offers[key]
        seen = self.now - offer.observed_at
        return id(offer), int(seen / 5) if seen < 60 else int(seen / 60), stale(seen, render.MARKET_PERIOD_S)

    def cells(self, key: str) -> Sequence[Cell]:
        return render.cells(self.offers[key], self.context())

    async def fetch(self) -> None:
        """The offers anew, then the rows."""
        versions = self._versions()
        try:
            reply = await self.console.engine.offers()
        except UnderstudyError as error:
            self._problem = error
            self._placeholder()
            return
        self._problem, self._fetched = None, versions
        self.offers = {offer.id: offer for offer in reply.offers}
        self._subjects.clear()
        await self.refill()

    def _versions(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted((name, status.version) for name, status in self.model.markets.items()))

    async def refill(self) -> None:
        """Filter in slices, sort, and show; the cursor stays on its offer."""
        kept: list[Offer] = []
        offers, wanted = list(self.offers.values()), self.filter
        hosts, now = self.model.state.hosts, self.now
        for begin in range(0, len(offers), SLICE):
            for offer in offers[begin : begin + SLICE]:
                if wanted.empty:
                    kept.append(offer)
                    continue
                subject = self._subjects.get(offer.id)
                if subject is None:
                    subject = subjects.offer(offer, render.host_of(offer, hosts), self.disk_gb, now)
                    self._subjects[offer.id] = subject
                if wanted(subject):
                    kept.append(offer)
            if begin + SLICE < len(offers):
                await asyncio.sleep(0)
        ordered = render.ordered(kept, self.sort, self.descending, self.context())
        moved = self.rows.put([offer.id for offer in ordered], frozen=False)
        self.table.data_changed(reordered=moved)
        self._placeholder()
        self._titles()

    def _titles(self) -> None:
        arrow = ("v" if self.descending else "^") if self.console.ascii_only else ("↓" if self.descending else "↑")
        lab = " (lab)" if self.model.lab else ""
        marked = f", {len(self.table.marks)} marked" if self.table.marks else ""
        self.table.border_title = f"market{lab}, {len(self.rows):,} offers by {self.sort} {arrow}{marked}"
        self.count_filter(len(self.rows), len(self.offers), self.filter.problem)

    def _placeholder(self) -> None:
        g = self.glyphs
        failing = [m for m in self.model.markets.values() if not m.ok]
        if self._problem is not None:
            lines = conditions.failed(str(self._problem), self._problem.hint, g)
        elif not self._fetched and self.model.connection.state in ("live", "stale"):
            lines = conditions.loading("asking for the offers", self.now - self.model.connection.since, g)
        elif failing and not self.offers:
            hint = "understudy doctor checks the key and the connection. It is asked again by itself."
            lines = conditions.failed(f"{failing[0].provider}: {failing[0].error}", hint, g)
        else:
            step = "Offers come with the next listing, once a provider is connected: understudy secrets set."
            lines = self.instead("the offers", empty="The market is empty.", next_step=step)
        self.table.placeholder = lines
        self.table.data_changed()

    # -- the panel's own -----------------------------------------------------------------------------------------------

    def changed(self, topics: frozenset[str]) -> None:
        if self.model.connection.state == "live" and self._versions() != self._fetched:
            self.run_worker(self.fetch(), group="offers", exclusive=True)
        elif topics & {"hosts"}:
            self._subjects.clear()
        self._placeholder()
        self.tick()

    def tick(self) -> None:
        self.query_one("#providers", Text).show([self._providers()])
        self.table.data_changed()

    def _providers(self) -> Line:
        line: Line = [(" ", ""), *render.status_line(self.model.markets, self.now, self.glyphs)]
        return line if self.model.markets else [(" no market listed yet", "muted")]

    def apply_filter(self, text: str) -> None:
        self.filter = filters.parse(text, filters.MARKET)
        self.run_worker(self.refill(), group="refill", exclusive=True)

    @on(VTable.Sorted)
    def sorted(self, message: VTable.Sorted) -> None:
        self.sort, self.descending = message.column, message.descending
        self.table.show_sort(self.sort, self.descending)
        self.run_worker(self.refill(), group="refill", exclusive=True)

    @on(VTable.Highlighted)
    def highlighted(self, message: VTable.Highlighted) -> None:
        """The detail follows when the cursor rests: laid out anew with every key it would cost more than the move."""
        del message
        if not self.query_one(OfferDetail).display:
            return
        if self._resting is not None:
            self._resting.cancel()
        if self.query_one(OfferDetail).offer is None:
            self._rested()
        else:
            self._resting = asyncio.get_running_loop().call_later(REST_S, self._rested)

    def _rested(self) -> None:
        """The cursor rests: everything about its offer."""
        self._resting = None
        if self.is_mounted:
            detail = self.query_one(OfferDetail)
            detail.show(self.offers.get(str(self.table.cursor_key)), self.context())
            detail.load()

    def on_unmount(self) -> None:
        if self._resting is not None:
            self._resting.cancel()

    @on(VTable.Opened)
    def opened(self, message: VTable.Opened) -> None:
        offer = self.offers.get(str(message.key))
        if offer is not None:
            self.app.push_screen(OfferScreen(offer, self.disk_gb))

    def chosen(self) -> list[Offer]:
        keys = map(str, self.table.chosen()) if self.is_mounted else ()
        return [self.offers[key] for key in keys if key in self.offers]

    def action_rent(self, offer: str = "") -> None:
        """The sheet for this offer."""
        wanted = [self.offers[offer]] if offer in self.offers else self.chosen()
        if not wanted:
            self.console.say(
                "There is no offer here to rent." if not offer else f"There is no offer {offer!r}.", "warning"
            )
            return
        self.app.push_screen(RentSheet(wanted[0], self.disk_gb))

    def row_name(self) -> str:
        chosen = self.chosen()
        return f"offer {chosen[0].id}" if len(chosen) == 1 else f"{len(chosen)} offers"

    def row_text(self) -> str:
        return "\n".join(render.as_text(offer, self.disk_gb) for offer in self.chosen())

    def row_json(self) -> str:
        return "\n".join(msgspec.json.encode(offer).decode() for offer in self.chosen())
