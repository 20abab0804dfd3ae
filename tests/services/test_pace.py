"""A provider in trouble is left alone, and asked again at once when somebody needs it and it may have recovered."""

from __future__ import annotations

import asyncio

import pytest

from core.domain.market import MarketStatus
from core.operations.views import MarketView
from core.services import pace

FOR_EVER_S = 3600.0


def status(*, ok: bool) -> MarketStatus:
    return MarketStatus(provider="vast", version=1, at=0.0, count=0, ok=ok, error=None if ok else "HTTP 500")


async def test_somebody_who_needs_an_answer_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LEAST_ALONE_S", 0.01)
    bell = asyncio.Event()
    waiting = asyncio.create_task(pace.leave_alone(FOR_EVER_S, asyncio.Event(), bell))
    bell.set()
    await waiting
    assert not bell.is_set()


async def test_a_provider_that_named_the_time_is_given_it() -> None:
    hurried = asyncio.Event()
    waiting = asyncio.create_task(pace.leave_alone(FOR_EVER_S, hurried))
    await asyncio.sleep(0)
    assert not waiting.done()
    hurried.set()  # a new key
    await waiting


async def test_a_new_key_ends_every_wait() -> None:
    hurried = asyncio.Event()
    hurried.set()
    await pace.leave_alone(FOR_EVER_S, hurried, asyncio.Event())
    assert not hurried.is_set()


async def test_what_failed_is_asked_again_and_what_is_fresh_is_not() -> None:
    now = 100.0
    view = MarketView(monotonic=lambda: now)
    await view.publish(status(ok=True), [])
    now = 105.0
    assert await view.fresh(["vast"], max_age_s=10.0, timeout_s=FOR_EVER_S) == []
    assert not view.wanted.is_set()

    await view.publish(status(ok=False), None)
    now = 106.0
    asking = asyncio.create_task(view.fresh(["vast"], max_age_s=10.0, timeout_s=FOR_EVER_S))
    await asyncio.sleep(0)
    assert view.wanted.is_set()
    await view.publish(status(ok=True), [])
    assert await asking == []
