"""The stream: snapshot, deltas, a gap, a reader that is slow; facts are never lost and nobody waits for anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from core.domain import api
from core.domain.events import Fact, Said
from core.domain.readings import MachineReading
from core.domain.state import State, apply
from core.engine import feed as feed_module
from core.engine.feed import FACTS_MAX, KEYS_PER_BLOCK, Feed
from core.store.store import Store

HELLO = api.Hello(protocol=1, protocol_oldest=1, version="t", pid=1, started_at=0.0, home="/", lab=True, owner="o")
decode = msgspec.json.Decoder(api.Update).decode


def blocked(n: int) -> Said:
    return Said(kind="host_blocked", detail={"provider": "vast", "host_id": str(n), "reason": "slow"})


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/understudy.db", clock=lambda: 1.0)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def feed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(feed_module, "PERIOD_S", 0.0)
    made = Feed(lambda: store.state, lambda since: store.journal(since=since, limit=5000))
    store.listen(made.fact)
    return made


class Reader:
    """Folds what a stream brings, as a console does."""

    def __init__(self, feed: Feed, since: int = 0) -> None:
        self.stream = feed.stream(HELLO, since)
        self.state = State(seq=since)
        self.updates: list[Any] = []
        self.seqs: list[int] = []
        self.readings: dict[str, MachineReading] = {}

    async def read(self, until: Callable[[], bool]) -> None:
        while not until():
            for line in (await anext(self.stream)).splitlines():
                self.take(decode(line))

    def take(self, update: Any) -> None:
        self.updates.append(update)
        if isinstance(update, api.Snapshot):
            self.state = update.state
        if isinstance(update, api.Snapshot | api.Delta):
            self.readings |= update.readings
        if isinstance(update, api.Delta):
            for fact in update.facts:
                self.seqs.append(fact.seq)
                apply(self.state, fact)


async def test_a_reader_gets_the_state_and_then_every_fact_in_order(store: Store, feed: Feed) -> None:
    await store.say(*(blocked(n) for n in range(5)))
    reader = Reader(feed)
    async with aclosing(reader.stream):
        await reader.read(lambda: len(reader.updates) >= 2)
        assert [type(u) for u in reader.updates[:2]] == [api.Hello, api.Snapshot]
        await asyncio.gather(*(store.say(blocked(100 + n)) for n in range(20)))
        await reader.read(lambda: reader.state.seq == 25)
    assert reader.seqs == list(range(6, 26))
    assert reader.state == store.state
    assert feed.readers == 0


async def test_facts_said_while_a_reader_arrives_are_not_lost(store: Store, feed: Feed) -> None:
    await store.say(blocked(0))
    readers = [Reader(feed, since=1) for _ in range(5)]

    async def talk() -> None:
        for n in range(50):
            await store.say(blocked(n))

    talking = asyncio.create_task(talk())
    await asyncio.gather(*(r.read(lambda r=r: r.state.seq >= 51) for r in readers))
    await talking
    for reader in readers:
        assert reader.seqs == list(range(2, 52))
        await reader.stream.aclose()


async def test_who_was_away_shortly_gets_deltas_and_who_was_away_long_a_snapshot(store: Store, feed: Feed) -> None:
    await store.say(*(blocked(n) for n in range(FACTS_MAX + 10)))
    short, long, ahead = Reader(feed, since=FACTS_MAX), Reader(feed, since=1), Reader(feed, since=10**9)
    for reader, kind in ((short, api.Delta), (long, api.Snapshot), (ahead, api.Snapshot)):
        await reader.read(lambda r=reader: len(r.updates) >= 2)
        assert isinstance(reader.updates[1], kind)
        await reader.stream.aclose()
    assert short.seqs == list(range(FACTS_MAX + 1, FACTS_MAX + 11))


async def test_a_slow_reader_gets_the_newest_reading_and_every_fact(store: Store, feed: Feed) -> None:
    reader = Reader(feed)
    await reader.read(lambda: len(reader.updates) >= 2)
    for second in range(200):
        for n in range(3):
            feed.reading(f"m-{n}", MachineReading(at=float(second)))
        if second % 10 == 0:
            await store.say(blocked(second))
    before = len(reader.updates)
    await reader.read(lambda: reader.state.seq == 20 and len(reader.readings) == 3)
    assert {r.at for r in reader.readings.values()} == {199.0}
    assert reader.seqs == list(range(1, 21))
    assert len(reader.updates) - before <= 3
    await reader.stream.aclose()


async def test_many_keys_come_in_pieces_and_all_of_them(store: Store, feed: Feed) -> None:
    reader = Reader(feed)
    await reader.read(lambda: len(reader.updates) >= 2)
    for n in range(1000):
        feed.reading(f"m-{n}", MachineReading(at=1.0))
    await reader.read(lambda: len(reader.readings) == 1000)
    assert max(len(u.readings) for u in reader.updates if isinstance(u, api.Delta)) == KEYS_PER_BLOCK
    await reader.stream.aclose()


async def test_a_reader_that_fell_too_far_back_is_told_to_come_again(store: Store, feed: Feed) -> None:
    reader = Reader(feed)
    await reader.read(lambda: len(reader.updates) >= 2)
    for n in range(FACTS_MAX + 50):
        feed.fact(Fact(seq=n + 1, at=1.0, kind="host_blocked", detail=blocked(n).detail))
    await reader.read(lambda: isinstance(reader.updates[-1], api.End))
    assert reader.updates[-1].reason == "behind"
    assert reader.seqs == list(range(1, FACTS_MAX + 1))
    with pytest.raises(StopAsyncIteration):
        await anext(reader.stream)


async def test_a_stop_is_said_to_everybody_and_to_who_comes_after(store: Store, feed: Feed) -> None:
    reader = Reader(feed)
    await reader.read(lambda: len(reader.updates) >= 2)
    feed.close()
    late = Reader(feed)
    for each in (reader, late):
        await each.read(lambda e=each: bool(e.updates) and isinstance(e.updates[-1], api.End))
        assert each.updates[-1].reason == "closing"
        await each.stream.aclose()
