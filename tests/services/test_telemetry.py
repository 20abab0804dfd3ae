"""Curves: second by second from memory, ten-second points from before; and a broken history that costs no reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.readings import GpuReading, MachineReading, Progress, TelemetryPoint, point
from core.services import telemetry as module
from core.services.ring import Ring
from core.services.telemetry import RING, Telemetry
from core.store.database import sqlite_url
from core.store.history import History

NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.builds(
    TelemetryPoint,
    st.floats(0, 2e9, allow_nan=False),
    *[NUMBER] * 6,
    st.none() | st.integers(0, 2**40),
)


@given(st.lists(POINTS, max_size=30), st.integers(1, 12))
def test_a_ring_gives_back_the_newest_as_they_were(points: list[TelemetryPoint], size: int) -> None:
    ring = Ring(size)
    for each in points:
        ring.add(each)
    assert ring.since(0.0) == points[-size:]
    if points:
        instant = points[-1].at
        assert ring.since(instant) == [p for p in points[-size:] if p.at >= instant]


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    opened = History(sqlite_url(tmp_path / "telemetry.db"))
    await opened.open()
    yield opened
    await opened.close()


def reading(at: float, busy: float = 50.0) -> MachineReading:
    gpus = [GpuReading(0, "GPU-0", "RTX 4090", busy, 1000.0, 24_564.0, 60.0, 200.0), GpuReading(1, "GPU-1", "RTX 4090")]
    return MachineReading(at=at, gpus=gpus, cpu_pct=10.0, progress=Progress(0.5, 7, 1.25))


def test_a_point_is_mean_sum_and_hottest_of_what_is_known() -> None:
    assert point(reading(5.0)) == TelemetryPoint(5.0, 50.0, 1000.0, 200.0, 60.0, 10.0, 1.25, 7)
    assert point(MachineReading(at=5.0)) == TelemetryPoint(5.0, None, None, None, None, None)


async def test_old_points_come_from_the_history_and_new_ones_from_memory(history: History) -> None:
    telemetry = Telemetry(history, lambda: 2_000.0)
    old = [TelemetryPoint(float(at), 1.0, 1.0, 1.0, 1.0, 1.0) for at in range(0, 200, 10)]
    await history.telemetry_add([("m-1", p) for p in old], 200.0)
    for second in range(100, 100 + RING + 50):
        telemetry.take("m-1", reading(float(second)))
    found = await telemetry.since("m-1", 90.0)
    assert [p.at for p in found] == [90.0, 100.0, 110.0, 120.0, 130.0, 140.0, *map(float, range(150, 150 + RING))]
    telemetry.forget("m-1")
    assert [p.at for p in await telemetry.since("m-1", 150.0)] == [150.0, 160.0, 170.0, 180.0, 190.0]


async def test_a_history_that_refuses_costs_no_reading(
    history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY_S", 0.0)
    await history._run(lambda: history._read(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1").scalar_one()))
    telemetry = Telemetry(history, lambda: 1.0)
    for n in range(2_000):
        telemetry.take(f"m-{n}", reading(1.0))
    running = asyncio.create_task(telemetry.run())
    while "telemetry not kept" not in caplog.text:
        await asyncio.sleep(0.01)
    running.cancel()
    assert len(await telemetry.since("m-7", 0.0)) == 1
