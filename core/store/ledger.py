"""The ledger of intents: what makes a rent safe against kill -9.

    PREPARED -> CALLING -> BOUND -> DESTROYING -> GONE
        |          |        TOMBSTONE ^ (found in a listing)
        +----------+------> TOMBSTONE ---------> GONE (absent from two listings)

One rule: every move is a compare-and-set inside a transaction, and the create call is made at most once per token, only
by whoever moved PREPARED to CALLING. A token whose call may have taken effect is TOMBSTONE: if its machine ever
appears in a listing, it is destroyed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from core.store.schema import intents

IntentState = Literal["PREPARED", "CALLING", "BOUND", "DESTROYING", "TOMBSTONE", "GONE"]


class IntentRow(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    machine: str
    workspace: str | None
    provider: str
    state: IntentState
    provider_id: str | None
    own_key: str | None
    created_at: float
    updated_at: float

    def __repr__(self) -> str:
        return f"IntentRow({self.token!r}, {self.state}, {self.provider_id!r})"


class Ledger:
    """The ledger within one transaction."""

    def __init__(self, connection: sa.Connection, now: float) -> None:
        self._connection = connection
        self._now = now

    def prepare(self, token: str, *, machine: str, workspace: str | None, provider: str) -> bool:
        """Writes a new PREPARED row; False when the token has one already, whatever its state."""
        if self.get(token) is not None:
            return False
        self._connection.execute(
            intents.insert().values(
                token=token,
                machine=machine,
                workspace=workspace,
                provider=provider,
                state="PREPARED",
                created_at=self._now,
                updated_at=self._now,
            )
        )
        return True

    def bind_known(self, token: str, *, machine: str, workspace: str | None, provider: str, provider_id: str) -> None:
        """A row for a machine that exists already (an adopted one)."""
        self.prepare(token, machine=machine, workspace=workspace, provider=provider)
        self.move(token, "PREPARED", "BOUND", provider_id=provider_id)

    def move(
        self,
        token: str,
        was: IntentState,
        to: IntentState,
        *,
        provider_id: str | None = None,
        own_key: str | None = None,
    ) -> bool:
        """The compare-and-set: False when the row was not in `was`."""
        values: dict[str, object] = {"state": to, "updated_at": self._now}
        if provider_id is not None:
            values["provider_id"] = provider_id
        if own_key is not None or to == "GONE":
            values["own_key"] = own_key
        statement = intents.update().where(intents.c.token == token, intents.c.state == was).values(**values)
        return self._connection.execute(statement).rowcount == 1

    def get(self, token: str) -> IntentRow | None:
        return self._one(sa.select(intents).where(intents.c.token == token))

    def of_machine(self, machine: str) -> IntentRow | None:
        return self._one(sa.select(intents).where(intents.c.machine == machine))

    def of_workspace(self, workspace: str) -> list[IntentRow]:
        return self._all(sa.select(intents).where(intents.c.workspace == workspace).order_by(intents.c.created_at))

    def live(self) -> list[IntentRow]:
        """All rows that are not GONE, oldest first."""
        return self._all(sa.select(intents).where(intents.c.state != "GONE").order_by(intents.c.created_at))

    def _one(self, query: sa.Select[tuple[object, ...]]) -> IntentRow | None:
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _row(row)

    def _all(self, query: sa.Select[tuple[object, ...]]) -> list[IntentRow]:
        return [_row(row) for row in self._connection.execute(query).mappings()]


def _row(row: Any) -> IntentRow:
    return msgspec.convert({f: row[f] for f in IntentRow.__struct_fields__}, IntentRow)
