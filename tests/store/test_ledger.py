"""The ledger: every move a compare-and-set, whoever makes it and however often."""

from __future__ import annotations

import asyncio
import itertools
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from core.store import schema
from core.store.database import connect
from core.store.ledger import IntentState, Ledger
from core.store.store import Store

STATES = get_args(IntentState)


async def test_a_token_is_prepared_once(store: Store) -> None:
    def prepare(machine: str) -> bool:
        return True

    made = [
        await store.write(lambda tx, m=m: tx.ledger.prepare("t", machine=m, workspace="w", provider="vast"))
        for m in ("m-1", "m-2")
    ]
    assert made == [True, False]
    row = await store.write(lambda tx: tx.ledger.get("t"))
    assert row is not None
    assert (row.machine, row.state, row.provider_id) == ("m-1", "PREPARED", None)


async def test_of_many_who_want_to_call_one_may(store: Store) -> None:
    await store.write(lambda tx: tx.ledger.prepare("t", machine="m-1", workspace="w", provider="vast"))
    won = await asyncio.gather(*(store.write(lambda tx: tx.ledger.move("t", "PREPARED", "CALLING")) for _ in range(20)))
    assert sum(won) == 1


async def test_a_late_answer_cannot_bind_what_was_condemned(store: Store) -> None:
    def condemned(tx: object) -> list[bool]:
        ledger: Ledger = tx.ledger  # type: ignore[attr-defined]
        return [
            ledger.prepare("t", machine="m-1", workspace="w", provider="vast"),
            ledger.move("t", "PREPARED", "CALLING"),
            ledger.move("t", "CALLING", "TOMBSTONE"),
            ledger.move("t", "CALLING", "BOUND", provider_id="9", own_key="secret"),
        ]

    assert await store.write(condemned) == [True, True, True, False]
    row = await store.write(lambda tx: tx.ledger.get("t"))
    assert row is not None
    assert (row.state, row.own_key) == ("TOMBSTONE", None)


async def test_a_machines_own_key_is_forgotten_with_the_machine_and_never_shown(store: Store) -> None:
    await store.write(lambda tx: tx.ledger.prepare("t", machine="m-1", workspace="w", provider="vast"))
    await store.write(lambda tx: tx.ledger.move("t", "PREPARED", "BOUND", provider_id="9", own_key="hunter2"))
    row = await store.write(lambda tx: tx.ledger.of_machine("m-1"))
    assert row is not None
    assert row.own_key == "hunter2"
    assert "hunter2" not in repr(row)
    await store.write(lambda tx: tx.ledger.move("t", "BOUND", "GONE"))
    gone = await store.write(lambda tx: tx.ledger.get("t"))
    assert gone is not None
    assert gone.own_key is None


async def test_live_is_all_that_may_still_exist(store: Store) -> None:
    for n, state in enumerate(STATES):
        token = f"t{n}"
        await store.write(
            lambda tx, t=token, n=n: tx.ledger.prepare(t, machine=f"m-{n}", workspace="w", provider="vast")
        )
        await store.write(lambda tx, t=token, s=state: tx.ledger.move(t, "PREPARED", s))
    live = await store.write(lambda tx: tx.ledger.live())
    assert sorted(row.state for row in live) == sorted(set(STATES) - {"GONE"})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(STATES)), max_size=12))
def test_a_move_happens_exactly_from_where_the_row_is(moves: list[tuple[IntentState, IntentState]]) -> None:
    engine = connect("sqlite:///:memory:")
    with engine.begin() as connection:
        schema.migrate(connection)
        ledger = Ledger(connection, 1.0)
        ledger.prepare("t", machine="m-1", workspace=None, provider="vast")
        at: IntentState = "PREPARED"
        for was, to in itertools.chain(moves):
            assert ledger.move("t", was, to) == (was == at)
            at = to if was == at else at
            row = ledger.get("t")
            assert row is not None
            assert row.state == at
    engine.dispose()
