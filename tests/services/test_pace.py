"""How a watcher waits: the period, a bell, and what a cloud in trouble asked for."""

from __future__ import annotations

import asyncio

import pytest

from core.domain.errors import RateLimited, Unavailable
from core.services.pace import BACKOFF_MAX_S, RATE_LIMIT_S, after_failure, rest

DOWN = Unavailable("no answer", provider="vast", operation="list")


def limited(retry_after_s: float | None) -> RateLimited:
    return RateLimited("too frequent", provider="vast", operation="list", retry_after_s=retry_after_s)


def test_failures_double_the_pause_up_to_a_limit() -> None:
    pauses = [after_failure(DOWN, n, 2.0) for n in range(1, 12)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses[-1] == BACKOFF_MAX_S


@pytest.mark.parametrize(("said", "pause"), [(7.0, 7.0), (None, RATE_LIMIT_S), (10_000.0, BACKOFF_MAX_S)])
def test_a_rate_limit_is_obeyed_as_it_was_said(said: float | None, pause: float) -> None:
    assert after_failure(limited(said), 5, 2.0) == pause


async def test_a_bell_ends_the_rest_and_is_cleared() -> None:
    bell = asyncio.Event()
    bell.set()
    await asyncio.wait_for(rest(3600.0, bell, least_s=0.0, jitter=lambda: 0.5), 30)
    assert not bell.is_set()


async def test_without_a_bell_the_period_ends_it() -> None:
    await asyncio.wait_for(rest(0.01, asyncio.Event(), least_s=0.0, jitter=lambda: 1.0), 30)
