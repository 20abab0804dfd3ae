"""The store: one writer, facts and what they made in one transaction, nobody told before the commit."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.domain.errors import IntentRefused, StoreError
from core.domain.events import Fact, Said
from core.domain.state import State, apply
from core.store import schema
from core.store.database import connect, sqlite_url
from core.store.projection import load_state
from core.store.store import Store, Tx
from tests.store.conftest import HandClock
from tests.store.postgresql import SERVER, server_database

BUDGET = {"usd_per_hour": 3.0, "usd_per_month": 50.0, "machines": 2}


def blocked(host: str) -> Said:
    return Said(kind="host_blocked", detail={"provider": "vast", "host_id": host, "reason": "slow"})


async def told(store: Store) -> None:
    """Lets what was committed reach the loop."""
    await store.read(lambda c: None)
    await asyncio.sleep(0)


async def test_a_fact_gets_its_number_and_time_and_is_told_after_the_commit(store: Store, clock: HandClock) -> None:
    heard: list[Fact] = []
    store.listen(heard.append)
    await store.say(Said(kind="budget_set", detail=BUDGET), blocked("1"))
    await told(store)
    assert [(f.seq, f.at, f.kind) for f in heard] == [
        (1, clock.now, "budget_set"),
        (2, clock.now, "host_blocked"),
    ]
    assert store.state.seq == 2
    assert store.state.budget.machines == 2
    assert store.state.hosts["vast:1"].blocked


async def test_the_journal_and_the_objects_survive_and_fold_to_the_same_state(url: str, clock: HandClock) -> None:
    store = Store(url, clock=clock)
    await store.open()
    for n in range(30):
        clock.now += 1
        await store.say(blocked(str(n)))
    await store.say(Said(kind="host_unblocked", detail={"provider": "vast", "host_id": "3"}))
    await told(store)
    state, facts = store.state, await store.journal(limit=5000)
    await store.close()
    again = Store(url, clock=clock)
    await again.open()
    folded = State()
    for fact in facts:
        apply(folded, fact)
    assert again.state == state == folded
    await again.close()


async def test_a_refusal_inside_a_transaction_takes_everything_back(store: Store) -> None:
    await store.say(Said(kind="budget_set", detail=BUDGET))
    heard: list[Fact] = []
    store.listen(heard.append)

    def half(tx: Tx) -> None:
        tx.say(blocked("1"))
        tx.ledger.prepare("w.op.0", machine="m-1", workspace="w", provider="vast")
        raise IntentRefused("changed my mind")

    with pytest.raises(IntentRefused, match="changed my mind"):
        await store.write(half)
    await told(store)
    assert not heard
    assert not store.state.hosts
    assert await store.write(lambda tx: (tx.state.hosts, tx.state.seq, tx.ledger.live())) == ({}, 1, [])
    await store.say(blocked("2"))
    assert [f.seq for f in await store.journal()] == [1, 2]


async def test_a_caller_that_was_cancelled_does_not_silence_what_was_committed(store: Store) -> None:
    heard: list[Fact] = []
    store.listen(heard.append)
    writing = asyncio.create_task(store.say(blocked("1")))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    facts = await store.journal()
    await told(store)
    assert [f.seq for f in heard] == [f.seq for f in facts]
    assert store.state.seq == (await store.read(load_state)).seq


async def test_a_listener_that_fails_keeps_nothing_from_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def broken(_: Fact) -> None:
        raise ZeroDivisionError

    store.listen(broken)
    store.listen(lambda fact: heard.append(fact.seq))
    await store.say(blocked("1"), blocked("2"))
    await told(store)
    assert heard == [1, 2]
    assert store.state.seq == 2
    assert "a listener failed at fact 2" in caplog.text


async def test_writers_at_the_same_time_leave_no_gap(store: Store) -> None:
    await asyncio.gather(*(store.say(blocked(str(n))) for n in range(40)))
    assert [f.seq for f in await store.journal()] == list(range(1, 41))


async def test_the_journal_can_be_asked_from_a_number_a_time_and_for_the_newest(store: Store, clock: HandClock) -> None:
    start = clock.now
    for n in range(10):
        clock.now = start + n
        await store.say(Said(kind="host_blocked", workspace=f"w{n % 2}", detail=blocked(str(n)).detail))
    assert [f.seq for f in await store.journal(since=7)] == [8, 9, 10]
    assert [f.seq for f in await store.journal(since_at=start + 8)] == [9, 10]
    assert [f.seq for f in await store.journal(limit=-3)] == [8, 9, 10]
    assert [f.seq for f in await store.journal(limit=2)] == [1, 2]
    assert [f.seq for f in await store.journal(workspace="w1")] == [2, 4, 6, 8, 10]


async def test_a_setting_is_made_once(store: Store) -> None:
    assert await store.setting("owner", lambda: "first") == "first"
    assert await store.setting("owner", lambda: "second") == "first"


async def test_a_schema_of_a_newer_program_is_refused(url: str, clock: HandClock) -> None:
    store = Store(url, clock=clock)
    await store.open()
    await store.write(lambda tx: tx.connection.execute(schema.version.update().values(version=99)))
    await store.close()
    with pytest.raises(StoreError, match="of schema 99") as refused:
        await Store(url, clock=clock).open()
    assert "newer Understudy" in refused.value.hint


async def test_opening_again_migrates_nothing_twice(url: str, clock: HandClock) -> None:
    for _ in range(2):
        store = Store(url, clock=clock)
        await store.open()
        await store.say(blocked("1"))
        versions = await store.read(lambda c: c.execute(sa.select(schema.version.c.version)).scalars().all())
        assert versions == [len(schema.MIGRATIONS)]
        await store.close()


async def test_a_full_disk_is_a_sentence_and_loses_nothing_said_before(tmp_path: Path, clock: HandClock) -> None:
    store = Store(sqlite_url(tmp_path / "small.db"), clock=clock)
    await store.open()
    await store.say(blocked("1"))
    pages = await store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
    await store.read(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").scalar_one())
    with pytest.raises(StoreError, match="full") as refused:
        await store.say(Said(kind="host_blocked", detail=blocked("2").detail | {"reason": "x" * 100_000}))
    assert "free some space" in refused.value.hint
    assert [f.kind for f in await store.journal()] == ["host_blocked"]
    await store.read(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").scalar_one())
    await store.say(blocked("3"))
    await told(store)
    assert sorted(store.state.hosts) == ["vast:1", "vast:3"]
    await store.close()


async def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        await Store(sqlite_url(tmp_path / "broken.db"), clock=clock).open()


async def test_the_file_is_the_operators_alone_and_commits_survive_power_loss(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "understudy.db"
    store = Store(sqlite_url(path), clock=clock)
    await store.open()
    assert path.stat().st_mode & 0o777 == 0o600
    pragmas = await store.read(
        lambda c: [c.exec_driver_sql(f"PRAGMA {p}").scalar_one() for p in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]
    await store.close()


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(StoreError, match="not supported"):
        connect("mysql://somewhere/x")


def test_a_database_written_by_a_killed_process_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "understudy.db"
    engine = connect(sqlite_url(path))
    with engine.begin() as connection:
        schema.migrate(connection)
    engine.dispose()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


if SERVER:

    @pytest.mark.postgres
    async def test_a_second_engine_on_one_postgresql_is_refused(url: str, store: Store, clock: HandClock) -> None:
        if not url.startswith("postgresql"):
            return
        with pytest.raises(StoreError, match="Another engine"):
            await Store(url, clock=clock).open()
        await store.say(blocked("1"))

    @pytest.mark.postgres
    async def test_a_database_that_is_not_utf8_is_refused(clock: HandClock) -> None:
        old = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        with server_database(old) as address, pytest.raises(StoreError, match="UTF8"):
            await Store(address, clock=clock).open()

    @pytest.mark.postgres
    async def test_a_wrong_password_is_a_sentence_without_it(clock: HandClock) -> None:
        with pytest.raises(StoreError) as refused:
            await Store("postgresql://nobody:hunter2@127.0.0.1:1/none", clock=clock).open()
        assert "hunter2" not in str(refused.value)
