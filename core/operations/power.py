"""Stopping and starting a rented machine. Stopped is not free: its disk bills, and its GPU may be gone meanwhile."""

from __future__ import annotations

import msgspec

from core.domain.errors import ProviderError
from core.domain.events import Said
from core.operations import arrive
from core.operations.codec import durable
from core.operations.context import ctx
from core.operations.timeline import Outcome, operation, step


@durable
class PowerOrder(msgspec.Struct, frozen=True, kw_only=True):
    operation: str
    machine: str
    on: bool
    actor: str


@operation("power")
async def power(order: PowerOrder) -> Outcome:
    """Off ends when the provider accepted; on ends when the machine answers again."""
    last = await switch(order)
    if not order.on or not last.ok:
        return last
    for following in (arrive.boot, arrive.ssh, arrive.agent):
        if last.ok:
            last = await following(order.machine)
    machine = ctx().store.state.machines.get(order.machine)
    workspace = (machine and machine.workspace) or ""
    if last.ok:
        last = await arrive.ready(order.machine, workspace)
    if last.ok:
        return last
    return await arrive.stranded(order.machine, workspace, last.detail)


@step("tell the provider")
async def switch(order: PowerOrder) -> Outcome:
    context = ctx()
    machine = context.store.state.machines.get(order.machine)
    if machine is None or machine.provider_id is None:
        return Outcome(ok=False, final=True, detail="There is no such machine.")
    provider = context.providers[machine.provider]
    try:
        await (provider.start if order.on else provider.stop)(machine.provider_id)
    except ProviderError as e:
        return Outcome(ok=False, final=True, detail=str(e))
    kind = "machine_started" if order.on else "machine_stopped"
    if not order.on:
        await context.reach.drop(order.machine)
    await context.store.say(
        Said(
            kind=kind,
            machine=order.machine,
            workspace=machine.workspace,
            operation=order.operation,
            actor=order.actor,
        )
    )
    return Outcome(ok=True, detail="accepted")
