"""Asking for an end: `down`, destroy, cancel, and the end that was agreed on when it was rented.

One rule: ledger and journal are told first, in one transaction, whatever is in flight; then DBOS, then the clouds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError
from core.domain.events import Said
from core.domain.machines import GONE, Machine
from core.engine.once import Requests, plain
from core.engine.permission import allow
from core.operations import durable
from core.operations.condemn import condemn
from core.operations.context import Context
from core.operations.retire import RetireOrder
from core.operations.timeline import valid_id
from core.store.store import Tx

_BRINGS_UP = ("rent", "adopt", "power")


@dataclass
class Ending:
    context: Context
    requests: Requests

    async def down(self, intent: api.DownIntent, actor: str) -> api.Accepted:
        """One workspace, or (name None) every workspace and every machine of ours. The ledger first, then DBOS."""
        allow(actor, "retire", intent.name or "everything")
        valid_id(intent.operation)
        state = self.context.store.state
        if intent.name is not None and intent.name not in state.workspaces:
            raise NotFoundError(f"There is no workspace {intent.name[:60]}.", hint="Those there are: understudy list.")
        cancelled: list[str] = []

        def begin(tx: Tx) -> api.Accepted:
            names = [intent.name] if intent.name else [w.name for w in tx.state.workspaces.values()]
            names = [n for n in names if tx.state.workspaces[n].state != "retired"]
            machines = [
                m.id
                for m in tx.state.machines.values()
                if m.state not in GONE and (intent.name is None or m.workspace == intent.name)
            ]
            if intent.name and not names and not machines:
                raise IntentRefused(f"{intent.name} is retired already.")
            cancelled.extend(cancel_open(tx, names, actor))
            for name in names:
                about: dict[str, Any] = {"workspace": name, "operation": intent.operation, "actor": actor}
                tx.say(Said(kind="workspace_retiring", **about))
            return self.condemn_all(tx, intent.operation, names, machines, actor, "asked for by the operator")

        accepted = await self.requests.once(intent, begin)
        for operation in cancelled:
            await durable.cancel(operation)
        return accepted

    def condemn_all(
        self, tx: Tx, operation: str, names: list[str], machines: list[str], actor: str, reason: str
    ) -> api.Accepted:
        order = RetireOrder(operation=operation, workspaces=names, machines=machines, actor=actor)
        detail = {"kind": "retire", "order": plain(order)}
        workspace = names[0] if len(names) == 1 else None
        machine = machines[0] if len(machines) == 1 else None
        tx.say(
            Said(
                kind="operation_started",
                workspace=workspace,
                machine=machine,
                operation=operation,
                actor=actor,
                detail=detail,
            )
        )
        for one in machines:
            condemn(tx, one, reason=reason, operation=operation, actor=actor)
        return api.Accepted(operation=operation, workspace=workspace, machines=machines)

    async def expire(self, machine: Machine) -> None:
        """Ends a machine whose time is up; called by the watcher, safe to call again."""
        operation = f"expire-{machine.id}"
        names = [machine.workspace] if machine.workspace and self.lives_on(machine) else []
        intent = api.MachineIntent(operation=operation, machine=machine.id, verb="destroy")

        def begin(tx: Tx) -> api.Accepted:
            return self.condemn_all(tx, operation, names, [machine.id], "engine", "its time was up (--for)")

        await self.requests.once(intent, begin)

    def lives_on(self, machine: Machine) -> bool:
        workspace = self.context.store.state.workspaces.get(machine.workspace or "")
        return workspace is not None and workspace.primary in (machine.id, None)

    async def destroy(self, intent: api.MachineIntent, machine: Machine, actor: str) -> api.Accepted:
        names = [machine.workspace] if machine.workspace and self.lives_on(machine) else []
        cancelled: list[str] = []

        def begin(tx: Tx) -> api.Accepted:
            cancelled.extend(cancel_open(tx, names, actor))
            for name in names:
                about: dict[str, Any] = {"workspace": name, "operation": intent.operation, "actor": actor}
                tx.say(Said(kind="workspace_retiring", **about))
            reason = "asked for by the operator"
            return self.condemn_all(tx, intent.operation, names, [machine.id], actor, reason)

        accepted = await self.requests.once(intent, begin)
        for operation in cancelled:
            await durable.cancel(operation)
        return accepted

    async def cancel(self, intent: api.Intent, operation: str, actor: str) -> api.Accepted:
        """Stops an operation. A rent's machine is condemned; a retire cannot be taken back."""
        allow(actor, "cancel", operation)
        known = self.context.store.state.operations.get(operation)
        if known is None:
            raise NotFoundError(f"There is no operation {operation[:80]}.")
        if known.state != "running":
            raise IntentRefused(f"It has ended already: {known.state}.")
        if known.kind == "retire":
            raise IntentRefused("A retire cannot be cancelled: what is condemned must go.")
        if known.workspace is not None and known.kind in ("rent", "adopt"):
            return await self.down(api.DownIntent(operation=intent.operation, name=known.workspace), actor)

        def say(tx: Tx) -> api.Accepted:
            detail = {"kind": known.kind}
            tx.say(Said(kind="operation_cancelled", operation=operation, actor=actor, detail=detail))
            return api.Accepted(operation=operation)

        accepted = await self.requests.once(intent, say)
        await durable.cancel(operation)
        return accepted


def cancel_open(tx: Tx, workspaces: list[str], actor: str) -> list[str]:
    """Closes what is bringing these workspaces up; returns the operations that DBOS must be told about."""
    cancelled = []
    for known in list(tx.state.operations.values()):
        if known.state == "running" and known.kind in _BRINGS_UP and known.workspace in workspaces:
            about: dict[str, Any] = {"workspace": known.workspace, "operation": known.id, "actor": actor}
            tx.say(Said(kind="operation_cancelled", detail={"kind": known.kind}, **about))
            cancelled.append(known.id)
    return cancelled
