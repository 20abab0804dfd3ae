"""Prices and telemetry: raw for two days, figures for ever, and never a bare minimum."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.domain.errors import StoreError
from core.domain.market import Offer, class_of
from core.domain.readings import TelemetryPoint
from core.store.database import sqlite_url
from core.store.history import BUCKET_S, RAW_KEPT_S, History

START = 1_790_000_000.0 - 1_790_000_000.0 % BUCKET_S


def offer(number: int, usd_per_hour: float) -> Offer:
    return Offer(
        id=str(number),
        provider="vast",
        gpu="RTX 4090",
        gpu_count=1,
        vram_mib=24_564,
        kind="on-demand",
        usd_per_hour=usd_per_hour,
        storage_usd_per_gb_month=0.2,
        observed_at=START,
        host_id=str(number),
        machine_ref=str(number),
    )


NAME = class_of(offer(1, 1.0))


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    opened = History(sqlite_url(tmp_path / "telemetry.db"))
    await opened.open()
    yield opened
    await opened.close()


async def test_only_a_changed_price_is_written(history: History) -> None:
    for minute in range(5):
        await history.observe([offer(1, 0.40), offer(2, 0.50)], START + 60 * minute)
    await history.observe([offer(1, 0.45), offer(2, 0.50)], START + 300)
    raw = (await history.prices(NAME, START + 301)).raw
    assert [(at - START, usd) for at, usd, _ in raw] == [(0, 0.40), (0, 0.50), (300, 0.45)]


async def test_a_half_hour_becomes_quartile_median_and_count(history: History) -> None:
    await history.observe([offer(n, usd) for n, usd in enumerate((0.01, 0.40, 0.42, 0.44, 0.80))], START + 5)
    await history.observe([offer(1, 0.40)], START + BUCKET_S + 5)
    done, running = (await history.prices(NAME, START + BUCKET_S + 6)).buckets
    assert (done.at, done.p25, done.median, done.count) == (START, 0.40, 0.42, 5)
    assert (running.at, running.count) == (START + BUCKET_S, 1)


async def test_raw_prices_go_after_two_days_and_figures_stay(history: History) -> None:
    await history.observe([offer(1, 0.40)], START)
    later = START + RAW_KEPT_S + 2 * BUCKET_S
    await history.observe([offer(1, 0.41)], later)
    await history.observe([offer(1, 0.41)], later + BUCKET_S)
    found = await history.prices(NAME, later + BUCKET_S)
    assert [usd for _, usd, _ in found.raw] == [0.41]
    assert [b.median for b in found.buckets] == [0.40, 0.41, 0.41]


async def test_a_short_life_leaves_its_half_hour_behind(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "telemetry.db")
    for life in range(2):
        history = History(url)
        await history.open()
        await history.observe([offer(life, 0.40 + life)], START + life * BUCKET_S)
        await history.close()
    history = History(url)
    await history.open()
    found = await history.prices(NAME, START + 2 * BUCKET_S)
    assert [(b.at - START, b.median) for b in found.buckets] == [(0, 0.40), (BUCKET_S, 1.40)]
    assert len(found.raw) == 2
    await history.close()


async def test_telemetry_is_kept_two_days_and_read_from_an_instant(history: History) -> None:
    def point(at: float) -> TelemetryPoint:
        return TelemetryPoint(at, 50.0, 1000.0, 200.0, 60.0, 10.0)

    await history.telemetry_add([("m-1", point(START)), ("m-2", point(START))], START)
    await history.telemetry_add([("m-1", point(START + RAW_KEPT_S + 5))], START + RAW_KEPT_S + 10)
    assert [p.at for p in await history.telemetry("m-1", 0.0)] == [START + RAW_KEPT_S + 5]
    assert await history.telemetry("m-2", 0.0) == []


async def test_a_full_disk_is_a_sentence(history: History) -> None:
    await history._run(lambda: history._read(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1").scalar_one()))
    with pytest.raises(StoreError, match="history database refused"):
        await history.observe([offer(n, n / 1000) for n in range(1, 3000)], START)
