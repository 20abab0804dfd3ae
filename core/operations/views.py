"""What the clouds last said, shared by the watchers that ask and the operations that wait for an answer.

One rule: an operation never polls a cloud by itself; it wakes the one watcher and waits for what that brings, so that
any number of operations costs one listing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from core.domain.market import MarketStatus, Offer
from core.providers.base import ProviderMachine


@dataclass
class Listing:
    """One whole listing of an account. `asked_at` and `at` are monotonic seconds: sent and answered."""

    asked_at: float
    at: float
    machines: dict[str, ProviderMachine]
    whole: bool = True  # no row was skipped: what is not in it is not there


@dataclass
class AccountView:
    """One provider's account: its last good listing, and a bell for those who need a newer one."""

    monotonic: Callable[[], float]
    last: Listing | None = None
    error: str | None = None
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def publish(self, listing: Listing) -> None:
        self.last = listing
        self.error = None
        async with self._came:
            self._came.notify_all()

    async def asked_after(self, instant: float) -> Listing:
        """A listing whose request left after `instant`; waits for as long as the provider is silent."""
        while self.last is None or self.last.asked_at <= instant:
            self.wanted.set()
            async with self._came:
                await self._came.wait()
        return self.last

    async def next(self) -> Listing:
        return await self.asked_after(self.monotonic())


@dataclass
class MarketView:
    """All providers' offers as last polled, with a bell for a fresh poll."""

    monotonic: Callable[[], float]
    offers: dict[str, list[Offer]] = field(default_factory=dict)
    status: dict[str, MarketStatus] = field(default_factory=dict)
    polled_at: dict[str, float] = field(default_factory=dict)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def publish(self, status: MarketStatus, offers: list[Offer] | None) -> None:
        """`offers` None: the poll failed, the old ones stay with their age."""
        self.status[status.provider] = status
        self.polled_at[status.provider] = self.monotonic()
        if offers is not None:
            self.offers[status.provider] = offers
        async with self._came:
            self._came.notify_all()

    async def fresh(self, providers: list[str], max_age_s: float, timeout_s: float) -> list[Offer]:
        """Offers of these providers no older than `max_age_s`; those that do not answer in time are left out.

        A provider that failed is asked again: its last word may be older than its recovery.
        """
        asked = self.monotonic()
        deadline = asked + timeout_s
        while missing := [p for p in providers if self.polled_at.get(p, -1e18) < self._oldest(p, asked, max_age_s)]:
            self.wanted.set()
            async with self._came:
                try:
                    await asyncio.wait_for(self._came.wait(), max(0.01, deadline - self.monotonic()))
                except TimeoutError:
                    break
        good = [p for p in providers if p not in missing and (s := self.status.get(p)) is not None and s.ok]
        return [offer for p in good for offer in self.offers.get(p, [])]

    def _oldest(self, provider: str, asked: float, max_age_s: float) -> float:
        status = self.status.get(provider)
        return asked if status is not None and not status.ok else asked - max_age_s

    def all_offers(self) -> list[Offer]:
        return [offer for offers in self.offers.values() for offer in offers]
