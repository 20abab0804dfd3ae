"""Asking for the rest: start, stop and adopt machines, block hosts, set limits and secrets.

One rule: as everywhere, the intent is written before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError
from core.domain.events import Said
from core.domain.machines import GONE, Machine
from core.domain.workspaces import UpSpec, check_name
from core.engine.ending import Ending
from core.engine.once import Requests, plain
from core.engine.permission import allow
from core.engine.renting import ENDED
from core.operations.adopt import AdoptOrder, spec_of
from core.operations.context import Context
from core.operations.names import workspace_of
from core.operations.power import PowerOrder
from core.operations.timeline import valid_id
from core.store.store import Tx


@dataclass
class Tending:
    """`public_key`: ours, for machines that are adopted; `hurry`: whom a new secret concerns."""

    context: Context
    requests: Requests
    ending: Ending
    public_key: str
    hurry: list[Callable[[], None]] = field(default_factory=list)

    async def machine(self, intent: api.MachineIntent, actor: str) -> api.Accepted:
        allow(actor, intent.verb, intent.machine)
        valid_id(intent.operation)
        if intent.verb == "adopt":
            return await self._adopt(intent, actor)
        machine = self.context.store.state.machines.get(intent.machine)
        if machine is None or machine.state in GONE:
            raise NotFoundError(
                f"There is no machine {intent.machine[:60]}.", hint="Those there are: understudy machines list."
            )
        if intent.verb == "destroy":
            return await self.ending.destroy(intent, machine, actor)
        if intent.verb == "stop" and machine.state not in ("ready", "lost"):
            raise IntentRefused(f"{machine.id} is {machine.state}; only a ready machine can be stopped.")
        if intent.verb == "start" and machine.state not in ("stopped", "lost"):
            raise IntentRefused(f"{machine.id} is {machine.state}; only a stopped machine can be started.")
        order = PowerOrder(operation=intent.operation, machine=machine.id, on=intent.verb == "start", actor=actor)
        return await self.requests.once(intent, _starting(order, machine, actor))

    async def _adopt(self, intent: api.MachineIntent, actor: str) -> api.Accepted:
        stranger = self.context.store.state.strangers.get(intent.machine)
        if stranger is None:
            raise NotFoundError(
                f"There is no stranger {intent.machine[:80]} in the accounts.",
                hint="Those there are: understudy machines list.",
            )
        name = intent.workspace or workspace_of(stranger.label.split("/", 2)[-1]) or f"adopted-{stranger.provider_id}"
        check_name(name)
        order = AdoptOrder(
            operation=intent.operation,
            provider=stranger.provider,
            provider_id=stranger.provider_id,
            workspace=name,
            public_key=self.public_key,
            actor=actor,
        )
        listing = self.context.accounts[stranger.provider].last
        seen = listing.machines.get(stranger.provider_id) if listing else None

        def begin(tx: Tx) -> api.Accepted:
            old = tx.state.workspaces.get(name)
            if old is not None and old.state not in ENDED:
                raise IntentRefused(f"The workspace {name} exists already.", hint="Give another: --workspace NAME.")
            spec = spec_of(seen) if seen else UpSpec(gpu=stranger.gpu, count=stranger.gpu_count)
            about = {"workspace": name, "operation": intent.operation, "actor": actor}
            detail = {"spec": msgspec.to_builtins(spec), "gpu": stranger.gpu, "gpu_count": stranger.gpu_count}
            tx.say(Said(kind="workspace_asked", detail=detail, **about))
            tx.say(Said(kind="operation_started", detail={"kind": "adopt", "order": plain(order)}, **about))
            return api.Accepted(operation=intent.operation, workspace=name)

        return await self.requests.once(intent, begin)

    async def host(self, intent: api.HostIntent, actor: str) -> api.Accepted:
        allow(actor, intent.verb, intent.host)
        provider, _, host_id = intent.host.partition(":")
        if not provider or not host_id:
            raise IntentRefused(f"'{intent.host[:60]}' is not a host.", hint="A host is PROVIDER:HOST_ID.")
        kind = f"host_{intent.verb}ed"
        detail = {"provider": provider, "host_id": host_id, "reason": intent.reason or "blocked by the operator"}
        return await self._say_once(intent, Said(kind=kind, actor=actor, detail=detail))

    async def budget(self, intent: api.BudgetIntent, actor: str) -> api.Accepted:
        allow(actor, "set the budget")
        old = self.context.store.state.budget
        values = {
            f: getattr(intent, f) if getattr(intent, f) is not None else getattr(old, f) for f in old.__struct_fields__
        }
        if min(values.values()) < 0:
            raise IntentRefused("A limit cannot be negative.")
        return await self._say_once(intent, Said(kind="budget_set", actor=actor, detail=values))

    async def secret(self, intent: api.SecretIntent, actor: str) -> api.Accepted:
        allow(actor, "change secrets")
        kind = "secret_set" if intent.verb == "set" else "secret_removed"
        accepted = await self._say_once(intent, Said(kind=kind, actor=actor, detail={"name": intent.name[:60]}))
        for one in self.hurry:
            one()
        return accepted

    async def _say_once(self, intent: api.Intent, said: Said) -> api.Accepted:
        def begin(tx: Tx) -> api.Accepted:
            tx.say(said)
            return api.Accepted(operation=intent.operation)

        return await self.requests.once(intent, begin)


def _starting(order: PowerOrder, machine: Machine, actor: str) -> Callable[[Tx], api.Accepted]:
    def begin(tx: Tx) -> api.Accepted:
        tx.say(
            Said(
                kind="operation_started",
                machine=machine.id,
                workspace=machine.workspace,
                operation=order.operation,
                actor=actor,
                detail={"kind": "power", "order": plain(order)},
            )
        )
        return api.Accepted(operation=order.operation, workspace=machine.workspace, machines=[machine.id])

    return begin
