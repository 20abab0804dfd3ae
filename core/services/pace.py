"""How a watcher waits: its period with jitter, sooner when somebody rings, later when the cloud is in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.domain.errors import ProviderError, RateLimited

BACKOFF_MAX_S = 300.0
RATE_LIMIT_S = 10.0
LEAST_ALONE_S = 5.0  # between two calls to a cloud in trouble, whoever asks


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


async def leave_alone(seconds: float, hurried: asyncio.Event, bell: asyncio.Event | None = None) -> None:
    """Waits out a failing provider. `hurried` (a new key was set) ends the wait; so does `bell`, somebody who needs an
    answer now, but never within `LEAST_ALONE_S`. A provider that named the time itself is given no bell."""
    if await _rings(hurried, min(seconds, LEAST_ALONE_S) if bell is not None else seconds) or bell is None:
        return
    ends = [asyncio.ensure_future(_rings(e, max(0.0, seconds - LEAST_ALONE_S))) for e in (hurried, bell)]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()


async def _rings(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set within so many seconds; it is cleared then."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    event.clear()
    return True
