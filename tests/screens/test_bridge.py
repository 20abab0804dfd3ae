"""The bridge and the model: what is kept, what is dirty, how a lost engine is waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from core.domain import api
from core.domain.events import Fact
from core.domain.readings import GpuReading, MachineReading
from core.domain.state import State
from tests.screens.conftest import NOW, ScriptedEngine, StillClock
from tui.bridge import BACKOFF_S, Bridge
from tui.model import FULL_HISTORY_MACHINES, HISTORY_S, TOPICS, UNKNOWN, Connection, Model


def model() -> Model:
    return Model(Connection("connecting", NOW))


def asked(seq: int, machine: str) -> Fact:
    new = {
        "id": machine,
        "provider": "vast",
        "state": "asked",
        "state_since": NOW,
        "gpu": "RTX 4090",
        "gpu_count": 1,
        "vram_mib": 24576,
        "kind": "on-demand",
        "usd_per_hour": 0.4,
        "disk_gb": 40.0,
    }
    return Fact(seq=seq, at=NOW, kind="machine_asked", machine=machine, detail={"new_machine": new})


def reading(at: float, *loads: float | None) -> MachineReading:
    return MachineReading(at=at, gpus=[GpuReading(i, f"u{i}", "RTX 4090", load) for i, load in enumerate(loads)])


class Waits:
    """Sleeping that lasts until the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.go = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.go.wait()
        self.go.clear()


async def turn(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_only_what_changed_gets_a_new_version() -> None:
    known = model()
    known.take_snapshot(api.Snapshot(state=State()))
    assert known.take_dirty() == TOPICS
    assert known.take_delta(api.Delta(facts=[asked(1, "m1"), asked(2, "m2")]))
    one, two = known.version("machines", "m1"), known.version("machines", "m2")
    known.take_dirty()
    known.take_delta(api.Delta(facts=[Fact(seq=3, at=NOW, kind="machine_ready", machine="m2")]))
    assert known.version("machines", "m1") == one
    assert known.version("machines", "m2") > two
    assert {"machines", "events"} <= known.take_dirty()


def test_a_new_snapshot_makes_every_row_new() -> None:
    known = model()
    known.take_snapshot(api.Snapshot(state=State()))
    before = known.version("machines", "m1")
    known.take_snapshot(api.Snapshot(state=State()))
    assert known.version("machines", "m1") != before


def test_a_heartbeat_changes_nothing() -> None:
    known = model()
    known.take_snapshot(api.Snapshot(state=State()))
    known.take_dirty()
    assert not known.take_delta(api.Delta())
    assert not known.dirty


def test_the_last_minute_is_kept_and_no_more() -> None:
    known = model()
    for second in range(HISTORY_S + 30):
        known.take_delta(api.Delta(readings={"m1": reading(NOW + second, second, None)}))
    assert len(known.recent["m1"]) == len(known.loads["m1"]) == HISTORY_S
    assert list(known.loads["m1"])[-1] == bytes([89, UNKNOWN])
    assert known.recent["m1"][0].at == NOW + 30


def test_a_large_fleet_keeps_whole_reports_of_watched_machines_only() -> None:
    known = model()
    count = FULL_HISTORY_MACHINES + 1
    known.take_delta(api.Delta(facts=[asked(i + 1, f"m{i}") for i in range(count)]))
    known.watched.add("m3")
    known.take_delta(api.Delta(readings={f"m{i}": reading(NOW, 50.0) for i in range(count)}))
    assert set(known.recent) == {"m3"}
    assert len(known.loads) == count


def test_events_are_unread_until_looked_at_and_the_past_is_not_news() -> None:
    known = model()
    known.take_delta(
        api.Delta(facts=[Fact(seq=9, at=NOW, kind="machine_lost", machine="m1", detail={"reason": "silent"})])
    )
    known.take_journal([Fact(seq=8, at=NOW, kind="machine_lost"), Fact(seq=9, at=NOW, kind="machine_lost")])
    assert [fact.seq for fact in known.events] == [8, 9]
    assert known.unread == 1
    known.seen_events()
    assert known.unread == 0


async def test_lost_and_found(engine: ScriptedEngine, clock: StillClock) -> None:
    known, waits, urgent = model(), Waits(), []
    engine.running = False
    task = asyncio.create_task(Bridge(engine, known, urgent.append, clock=clock, sleep=waits).run())
    await turn()
    assert known.connection.state == "connecting"
    waits.go.set()
    await turn()
    assert known.connection.state == "gone"
    assert known.connection.hint
    engine.running = True
    waits.go.set()
    await turn()
    assert known.connection.state == "live"
    assert known.connection.latency_ms == 0.0
    clock.at += 5
    engine.tell(api.Delta())
    await turn()
    clock.at += 5
    engine.drop()
    await turn()
    assert (known.connection.state, known.connection.since) == ("stale", NOW + 5)
    clock.at += 60
    waits.go.set()
    await turn()
    assert known.connection.since == NOW + 5
    assert known.connection.attempts == 2
    engine.running = True
    waits.go.set()
    await turn()
    assert known.connection.state == "live"
    assert True in urgent
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert all(wait <= 1.2 * max(BACKOFF_S) or wait == 5.0 for wait in waits.asked)


async def test_what_happened_before_is_looked_up_once(engine: ScriptedEngine, clock: StillClock) -> None:
    known = model()
    engine.facts = [Fact(seq=1, at=NOW, kind="engine_started", detail={"version": "1"})]
    calls: list[dict[str, Any]] = []
    journal = engine.journal

    async def counted(**query: Any) -> api.JournalPage:
        calls.append(query)
        return await journal(**query)

    engine.journal = counted  # type: ignore[method-assign]
    task = asyncio.create_task(Bridge(engine, known, lambda _: None, clock=clock, sleep=Waits()).run())
    await turn()
    assert [fact.seq for fact in known.events] == [1]
    engine.tell(api.Snapshot(state=State()))
    await turn()
    assert len(calls) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_reading_told_again_is_not_a_second_one() -> None:
    known = model()
    known.take_snapshot(api.Snapshot(state=State(), readings={"m1": reading(NOW, 50.0)}))
    known.take_snapshot(api.Snapshot(state=State(), readings={"m1": reading(NOW, 50.0)}))
    assert len(known.loads["m1"]) == len(known.recent["m1"]) == 1
    assert set(known.readings) == {"m1"}
