"""The state on disk: each object that facts made, as one JSON row. One rule: written only in the facts' transaction."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from core.domain.accounts import ProviderStatus
from core.domain.budget import Budget
from core.domain.machines import Machine, Stranger
from core.domain.market import HostHistory
from core.domain.operations import Operation
from core.domain.state import State
from core.domain.workspaces import Workspace
from core.store.schema import facts, objects

_KINDS: dict[str, type[Any]] = {
    "workspaces": Workspace,
    "machines": Machine,
    "strangers": Stranger,
    "operations": Operation,
    "providers": ProviderStatus,
    "hosts": HostHistory,
    "spend_by_month": float,
}


def load_state(connection: sa.Connection) -> State:
    """The state as of the last commit."""
    state = State(seq=connection.execute(sa.select(sa.func.max(facts.c.seq))).scalar() or 0)
    for kind, key, body in connection.execute(sa.select(objects.c.kind, objects.c.key, objects.c.body)):
        if kind == "budget":
            state.budget = msgspec.json.decode(body, type=Budget)
        elif kind in _KINDS:
            getattr(state, kind)[key] = msgspec.json.decode(body, type=_KINDS[kind])
    return state


def save_changed(connection: sa.Connection, state: State, changed: set[tuple[str, str]]) -> None:
    """Writes each object that is there, and removes each that is not."""
    kept, removed = [], []
    for kind, key in sorted(changed):
        value = state.budget if kind == "budget" else getattr(state, kind).get(key)
        if value is None:
            removed.append((kind, key))
        else:
            kept.append({"kind": kind, "key": key, "body": msgspec.json.encode(value).decode()})
    if kept:
        insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
        statement: Any = insert(objects)
        statement = statement.on_conflict_do_update(
            index_elements=["kind", "key"], set_={"body": statement.excluded.body}
        )
        connection.execute(statement, kept)
    for kind, key in removed:
        connection.execute(objects.delete().where(objects.c.kind == kind, objects.c.key == key))
