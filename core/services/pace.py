"""How a watcher waits: its period with jitter, sooner when somebody rings, later when the cloud is in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.domain.errors import ProviderError, RateLimited

BACKOFF_MAX_S = 300.0
RATE_LIMIT_S = 10.0


async def rest(period_s: float, bell: asyncio.Event, *, least_s: float, jitter: Callable[[], float]) -> None:
    """Waits for the bell or the period (±10 % by `jitter` in 0..1), but never less than `least_s`."""
    await asyncio.sleep(least_s)
    left = period_s * (0.9 + 0.2 * jitter()) - least_s
    if left > 0:
        try:
            await asyncio.wait_for(bell.wait(), left)
        except TimeoutError:
            return
    bell.clear()


def after_failure(error: ProviderError, failures: int, period_s: float) -> float:
    """Seconds to leave a provider alone after so many failures in a row: what it asked for, else doubling."""
    if isinstance(error, RateLimited):
        return min(BACKOFF_MAX_S, error.retry_after_s or RATE_LIMIT_S)
    return float(min(BACKOFF_MAX_S, period_s * 2 ** min(failures - 1, 8)))


async def leave_alone(seconds: float, hurried: asyncio.Event) -> None:
    """Waits out a failing provider; `hurried` (a new key was set) ends the wait."""
    try:
        await asyncio.wait_for(hurried.wait(), seconds)
    except TimeoutError:
        return
    hurried.clear()
