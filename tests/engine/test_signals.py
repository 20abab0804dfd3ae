"""A stop is heard even when the loop's own pipe is full."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from core.engine.main import heed_signals

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def as_before() -> Iterator[None]:
    before = [signal.getsignal(one) for one in SIGNALS]
    yield
    for one, handler in zip(SIGNALS, before, strict=True):
        signal.signal(one, handler)


@pytest.mark.parametrize("one", SIGNALS)
async def test_a_stop_is_heard_while_threads_storm(as_before: None, one: signal.Signals) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    heed_signals(loop, stop)
    for _ in range(5_000):  # as so many threads do that end while the loop is busy: more bytes than its pipe holds
        loop.call_soon_threadsafe(int)
    os.kill(os.getpid(), one)
    await asyncio.wait_for(stop.wait(), 10)
