"""Watches one provider's market: polls, publishes, keeps the price history.

One rule: a price is never shown or used without its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from core.domain.errors import ProviderError, RateLimited, StoreError
from core.domain.market import MarketStatus
from core.operations.views import MarketView
from core.providers.base import Provider
from core.services.pace import after_failure, leave_alone, rest
from core.store.history import History

LEAST_S = 1.0  # between two polls even when somebody rings: a search is the dearest call there is


@dataclass
class MarketWatch:
    """`told`: called with every new status, for the feed."""

    provider: Provider
    view: MarketView
    history: History
    period_s: float
    clock: Callable[[], float]
    jitter: Callable[[], float]
    told: Callable[[MarketStatus], None]
    _version: int = 0
    _failures: int = 0
    _told_to_wait: bool = False
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            pause = await self.poll()
            if pause is not None:
                await leave_alone(pause, self.hurried, None if self._told_to_wait else self.view.wanted)
            else:
                await rest(self.period_s, self.view.wanted, least_s=LEAST_S, jitter=self.jitter)

    async def poll(self) -> float | None:
        """One poll; None when it went well, else the seconds to leave the provider alone."""
        name = self.provider.name
        try:
            page = await self.provider.offers()
        except ProviderError as e:
            self._failures += 1
            self._told_to_wait = isinstance(e, RateLimited)
            old = self.view.status.get(name)
            await self._publish(
                MarketStatus(
                    provider=name,
                    version=self._version,
                    at=old.at if old else None,
                    count=old.count if old else 0,
                    ok=False,
                    error=str(e),
                )
            )
            return after_failure(e, self._failures, min(self.period_s, 5.0))
        self._failures = 0
        self._version += 1
        now = self.clock()
        status = MarketStatus(
            provider=name,
            version=self._version,
            at=now,
            count=len(page.offers),
            ok=True,
            rows_skipped=page.rows_skipped,
        )
        await self.view.publish(status, page.offers)
        self.told(status)
        try:
            await self.history.observe(page.offers, now)
        except StoreError as e:
            self.told(_with_error(status, str(e)))
        return None

    async def _publish(self, status: MarketStatus) -> None:
        await self.view.publish(status, None)
        self.told(status)


def _with_error(status: MarketStatus, error: str) -> MarketStatus:
    return MarketStatus(
        provider=status.provider,
        version=status.version,
        at=status.at,
        count=status.count,
        ok=True,
        error=f"The price history is not kept: {error}",
        rows_skipped=status.rows_skipped,
    )
