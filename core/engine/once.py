"""Requests: the same operation id acts once, however often it arrives; its first reply is given again.

One rule: a request, its facts and its reply are one transaction; an operation that it asked for is started after the
commit, or, should the engine die in between, at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa

from core.domain import api
from core.domain.errors import IntentRefused
from core.domain.events import Said
from core.domain.machines import GONE
from core.operations import durable
from core.operations.adopt import AdoptOrder, adopt
from core.operations.condemn import condemn
from core.operations.context import Context
from core.operations.power import PowerOrder, power
from core.operations.rent import RentOrder, rent
from core.operations.retire import RetireOrder, retire
from core.operations.timeline import valid_id
from core.store import schema
from core.store.store import Tx

RESUME_S = 30.0

KINDS: dict[str, tuple[Any, type[msgspec.Struct]]] = {
    "rent": (rent, RentOrder),
    "retire": (retire, RetireOrder),
    "adopt": (adopt, AdoptOrder),
    "power": (power, PowerOrder),
}


def plain(order: msgspec.Struct) -> dict[str, Any]:
    """The order as it is kept with its operation."""
    made: dict[str, Any] = msgspec.to_builtins(order)
    return made


@dataclass
class Requests:
    context: Context

    async def once(self, intent: api.Intent, begin: Callable[[Tx], api.Accepted]) -> api.Accepted:
        """Runs `begin` in the transaction that keeps its reply. Raises IntentRefused for an id used otherwise."""
        operation = valid_id(intent.operation)
        body, kind = msgspec.json.encode(intent).decode(), type(intent).__name__

        def work(tx: Tx) -> api.Accepted:
            r = schema.requests
            row = tx.connection.execute(sa.select(r).where(r.c.operation == operation)).mappings().one_or_none()
            if row is not None:
                if row["kind"] != kind or row["body"] != body:
                    raise IntentRefused(f"The operation id {operation} was used for something else.")
                return msgspec.json.decode(row["reply"], type=api.Accepted)
            accepted = begin(tx)
            reply = msgspec.json.encode(accepted).decode()
            values = {"operation": operation, "kind": kind, "body": body, "reply": reply, "at": tx.now}
            tx.connection.execute(r.insert().values(**values))
            return accepted

        accepted = await self.context.store.write(work)
        await self.start(operation)
        return accepted

    async def start(self, operation: str) -> None:
        """Starts the operation of that id if it is open; one that was started already stays as it is."""
        known = self.context.store.state.operations.get(operation)
        if known is None or known.state != "running" or known.kind not in KINDS:
            return
        function, order = KINDS[known.kind]
        await durable.start(function, operation, msgspec.convert(known.order, order))

    async def run(self) -> None:
        """For ever: `resume`, so that nothing stays open that nobody works on."""
        while True:
            await self.resume()
            await asyncio.sleep(RESUME_S)

    async def resume(self) -> None:
        """What the journal says is running: started when DBOS never heard of it, closed when DBOS gave it up."""
        for known in list(self.context.store.state.operations.values()):
            if known.state != "running":
                continue
            state = await durable.state_of(known.id)
            if state is None:
                await self.start(known.id)
            elif state not in ("PENDING", "ENQUEUED", "DELAYED"):
                await self.context.store.write(partial(_given_up, operation=known.id, state=state))


def _given_up(tx: Tx, *, operation: str, state: str) -> None:
    """An operation that ended without a word (a full disk, a refused row): failed, and a rent's machine condemned."""
    known = tx.state.operations.get(operation)
    if known is None or known.state != "running":
        return
    reason = f"it was broken off ({state.lower()}); see engine.log"
    about: dict[str, Any] = {"workspace": known.workspace, "operation": operation}
    tx.say(Said(kind="operation_failed", detail={"kind": known.kind, "reason": reason}, **about))
    workspace = tx.state.workspaces.get(known.workspace or "")
    if known.kind != "rent" or workspace is None or workspace.state != "renting":
        return
    for machine in list(tx.state.machines.values()):
        if machine.workspace == workspace.name and machine.state not in GONE:
            condemn(tx, machine.id, reason=reason, operation=operation)
    tx.say(Said(kind="workspace_failed", detail={"reason": reason}, **about))
