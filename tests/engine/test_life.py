"""Engine lives: kill -9 and everything is as it was; a stop that leaves nothing; a stream that is taken up again."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sqlite3
from base64 import b64encode
from contextlib import aclosing, closing
from pathlib import Path

import psutil
import pytest

from core.domain import api
from core.domain.errors import EngineError
from core.domain.state import State, apply
from core.domain.workspaces import UpSpec
from tests.engine.running_engine import RunningEngine, fresh
from tests.lab.running_lab import wait_until


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> object:
    running = RunningEngine(tmp_path_factory.mktemp("k"), quick=True)
    try:
        yield running.open()
    finally:
        running.close()


async def test_after_kill_9_everything_is_as_it_was(quick: RunningEngine) -> None:
    machine = await quick.rented()
    await quick.client.budget(api.BudgetIntent(operation=fresh("b"), usd_per_month=777.0))
    before = await quick.state()
    quick.kill()
    with pytest.raises(EngineError):
        await quick.client.hello()
    await asyncio.to_thread(quick.start)
    after = await quick.state()
    assert after.machines[machine.id] == before.machines[machine.id]
    assert after.budget == before.budget
    assert after.workspaces == before.workspaces
    await quick.until(lambda s: s.seq > before.seq)
    assert [f.kind for f in (await quick.client.journal(since=before.seq)).facts][:1] == ["engine_started"]


async def test_the_journal_explains_the_state(quick: RunningEngine) -> None:
    await quick.rented()
    await quick.down(None)
    folded = State()
    since = 0
    while facts := (await quick.client.journal(since=since, limit=500)).facts:
        for fact in facts:
            apply(folded, fact)
        since = facts[-1].seq
    state = await quick.state()
    later = (await quick.client.journal(since=since, limit=500)).facts
    for fact in later:
        apply(folded, fact)
    assert folded.machines.keys() == state.machines.keys()
    if folded.seq == state.seq:
        assert folded == state


async def test_a_stream_is_taken_up_where_it_was_by_the_next_engine_life(quick: RunningEngine) -> None:
    seen: list[int] = []
    since = (await quick.state()).seq
    for life in range(2):
        async with aclosing(quick.client.stream(since)) as updates:
            name = fresh()
            await quick.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="RTX 9999")))
            async for update in updates:
                if isinstance(update, api.Delta):
                    seen += [f.seq for f in update.facts]
                    if any(f.kind == "operation_failed" for f in update.facts):
                        break
        since = seen[-1]
        if life == 0:
            quick.kill()
            await asyncio.to_thread(quick.start)
    assert seen == list(range(seen[0], seen[0] + len(seen)))


async def test_a_pickle_in_the_operations_database_is_not_executed(quick: RunningEngine, tmp_path: Path) -> None:
    quick.fault("api-timeout", options={"endpoint": "create", "hold_s": 20.0})
    name = fresh()
    await quick.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=UpSpec(gpu="4090")))
    await quick.until(lambda s: any(m.workspace == name for m in s.machines.values()))
    quick.kill()
    proof = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {proof}",)

    evil = b64encode(pickle.dumps({"args": (Payload(),), "kwargs": {}})).decode()
    with closing(sqlite3.connect(quick.home.operations_database)) as database:
        changed = database.execute(
            "UPDATE workflow_status SET inputs = ?, serialization = 'py_pickle' WHERE workflow_uuid = ?",
            (evil, f"up-{name}"),
        ).rowcount
        database.commit()
    assert changed == 1
    quick.lab.control("POST", "/lab/heal", {})
    await asyncio.to_thread(quick.start)
    operation = await quick.ended(f"up-{name}")
    assert operation.state == "failed"
    assert not proof.exists()
    await quick.until(lambda s: all(m.state in ("destroyed", "failed", "ready") for m in s.machines.values()))
    assert not [c for c in quick.contracts(exists=True) if f"/{name}." in (c["label"] or "")]


async def test_a_stop_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    running = RunningEngine(tmp_path / "h", quick=False)
    try:
        await asyncio.to_thread(running.open)
        process = psutil.Process(running.pid)
        await running.client.stop_engine()
        await asyncio.to_thread(wait_until, lambda: not process.is_running() or process.status() == "zombie")
        assert running.process is not None
        assert running.process.wait(10) == 0
        assert not running.home.socket.exists()
        assert not process.children() if process.is_running() else True
        for database in (running.home.database, running.home.operations_database):
            with closing(sqlite3.connect(database)) as opened:
                assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        text = running.home.log.read_text()
        assert "Traceback" not in text
        with closing(sqlite3.connect(running.home.database)) as opened:
            kinds = [row[0] for row in opened.execute("SELECT kind FROM facts ORDER BY seq")]
        assert (kinds[0], kinds[-1]) == ("budget_set", "engine_stopped")
    finally:
        await asyncio.to_thread(running.close)


async def test_no_secret_is_in_what_the_engine_wrote(quick: RunningEngine) -> None:
    await quick.rented()
    token = quick.lab.about["token"]
    rows = (await quick.client.journal(limit=-5000)).facts
    assert token not in json.dumps([str(f) for f in rows])
    assert token not in quick.home.log.read_text()
    assert token not in " ".join(psutil.Process(quick.pid).cmdline())


async def test_a_reader_that_does_not_read_loses_no_fact_and_slows_nobody(quick: RunningEngine) -> None:
    slow = quick.client.stream()
    async with aclosing(slow):  # type: ignore[type-var]
        assert isinstance(await anext(slow), api.Hello)
        snapshot = await anext(slow)
        assert isinstance(snapshot, api.Snapshot)
        for n in range(100):
            verb = "block" if n % 2 == 0 else "unblock"
            await quick.client.host_intent(
                api.HostIntent(operation=fresh("h"), host="vast:1", verb=verb, reason="x" * 2000)  # type: ignore[arg-type]
            )
        last = (await quick.state()).seq
        seen: list[int] = []
        async for update in slow:
            if isinstance(update, api.Delta):
                seen += [f.seq for f in update.facts]
            if seen and seen[-1] >= last:
                break
    assert seen == list(range(snapshot.state.seq + 1, seen[-1] + 1))
