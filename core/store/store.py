"""The store: one thread that writes, the journal of facts, and the state that they fold into.

One rule: a fact, the objects that it changes and the ledger's move that caused it are one transaction; only after its
commit does anyone hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from core.domain.errors import StoreError
from core.domain.events import Fact, Said
from core.domain.state import State, apply
from core.store import schema
from core.store.database import connect
from core.store.ledger import Ledger
from core.store.projection import load_state, save_changed

T = TypeVar("T")

log = logging.getLogger("understudy.store")

_ENGINE_LOCK = 0x756E6466  # one engine per PostgreSQL database: a session lock, gone with its connection


class Listener(Protocol):
    """Told of every fact after its commit, in order, on the loop."""

    def __call__(self, fact: Fact) -> None: ...


class Tx:
    """One transaction, on the writer's thread. `state` is as of now, this transaction's own facts included."""

    def __init__(self, connection: sa.Connection, state: State, now: float) -> None:
        self.connection = connection
        self.state = state
        self.now = now
        self.ledger = Ledger(connection, now)
        self.said: list[Fact] = []
        self._changed: set[tuple[str, str]] = set()

    def say(self, said: Said) -> Fact:
        """Gives the fact its number and time, folds it, and keeps it with this transaction."""
        fact = Fact(seq=self.state.seq + 1, at=self.now, **{f: getattr(said, f) for f in said.__struct_fields__})
        self._changed |= apply(self.state, fact)
        self.said.append(fact)
        return fact

    def finish(self) -> None:
        if self.said:
            rows = [
                {f: getattr(fact, f) for f in fact.__struct_fields__}
                | {"detail": msgspec.json.encode(fact.detail).decode()}
                for fact in self.said
            ]
            self.connection.execute(schema.facts.insert(), rows)
            save_changed(self.connection, self.state, self._changed)


class Store:
    """`state` is the public fold, read on the loop only; `write` is the only way to change anything."""

    def __init__(self, url: str, *, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._listeners: list[Listener] = []
        self._private = State()
        self.state = State()

    async def open(self) -> None:
        """Connects, migrates, loads. Raises StoreError with a sentence."""
        await self._run(self._open)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Runs `work` in one transaction on the writer's thread; its facts are told after the commit.

        An exception of `work` rolls everything back and comes out here. Raises StoreError when the database refuses.
        """
        loop = asyncio.get_running_loop()
        return await self._run(lambda: self._write(work, loop))

    async def say(self, *said: Said) -> None:
        def tell(tx: Tx) -> None:
            for one in said:
                tx.say(one)

        await self.write(tell)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs a query on the writer's thread (it is never busy for long)."""

        def run() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await self._run(run)

    async def journal(
        self, *, since: int = 0, since_at: float = 0.0, limit: int = 500, workspace: str | None = None
    ) -> list[Fact]:
        """Facts after `since`, oldest first; a negative limit means the newest so many."""
        f = schema.facts
        query = sa.select(f).where(f.c.seq > since, f.c.at >= since_at)
        if workspace is not None:
            query = query.where(f.c.workspace == workspace)
        newest = limit < 0
        query = query.order_by(f.c.seq.desc() if newest else f.c.seq).limit(abs(limit))
        facts = await self.read(lambda c: [_fact(row) for row in c.execute(query).mappings()])
        return facts[::-1] if newest else facts

    async def setting(self, key: str, default: Callable[[], str]) -> str:
        """A value made once per home and kept, such as the owner's id."""

        def work(tx: Tx) -> str:
            s = schema.settings
            have = tx.connection.execute(sa.select(s.c.value).where(s.c.key == key)).scalar()
            if have is not None:
                return str(have)
            value = default()
            tx.connection.execute(s.insert().values(key=key, value=value))
            return value

        return await self.write(work)

    async def remember(self, key: str, value: str) -> None:
        """Replaces a setting: a measurement of ours that no fact depends on."""

        def work(tx: Tx) -> None:
            s = schema.settings
            tx.connection.execute(s.delete().where(s.c.key == key))
            tx.connection.execute(s.insert().values(key=key, value=value))

        await self.write(work)

    async def close(self) -> None:
        await self._run(self._engine.dispose)
        self._thread.shutdown(wait=False)

    # -- on the writer's thread ----------------------------------------------------------------------------------

    def _open(self) -> None:
        self._engine = connect(self._url)
        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    self._lock_postgresql(connection)
                schema.migrate(connection)
                self._private = load_state(connection)
                self.state = load_state(connection)
        except SQLAlchemyError as e:
            self._engine.dispose()
            raise _store_error(e) from e
        except StoreError:
            self._engine.dispose()
            raise

    @staticmethod
    def _lock_postgresql(connection: sa.Connection) -> None:
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_ENGINE_LOCK))).scalar():
            raise StoreError(
                "Another engine uses this PostgreSQL database.", hint="One engine per database: stop the other one."
            )

    def _write(self, work: Callable[[Tx], T], loop: asyncio.AbstractEventLoop) -> T:
        try:
            try:
                with self._engine.begin() as connection:
                    tx = Tx(connection, self._private, self._clock())
                    out = work(tx)
                    tx.finish()
            except BaseException:
                self._restore()
                raise
        except SQLAlchemyError as e:
            raise _store_error(e) from e
        if tx.said:
            # from here, not from the caller's task: a caller that was cancelled must not silence what is committed
            loop.call_soon_threadsafe(self._tell, tx.said)
        return out

    def _tell(self, said: list[Fact]) -> None:
        for fact in said:
            apply(self.state, fact)
            for listener in self._listeners:
                try:
                    listener(fact)
                except Exception:  # the state and the other listeners must not miss what is committed
                    log.exception("a listener failed at fact %d", fact.seq)

    def _restore(self) -> None:
        """After a rollback: what was folded in vain is taken back by reading the last committed state."""
        with self._engine.begin() as connection:
            self._private = load_state(connection)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _fact(row: Any) -> Fact:
    values = {f: row[f] for f in Fact.__struct_fields__}
    values["detail"] = msgspec.json.decode(values["detail"])
    return msgspec.convert(values, Fact)


def _store_error(error: SQLAlchemyError) -> StoreError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    full = "full" in reason.casefold()
    return StoreError(
        f"The home's database refused: {reason}.",
        hint="The disk is full: free some space; nothing that was said before is lost."
        if full
        else "Is its disk read-only or gone, or its server down? What is rented goes on running.",
    )
