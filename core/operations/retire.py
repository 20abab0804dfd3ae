"""Retire: end machines, and the workspace that lived on them. It returns at the first listing without them.

One rule: the ledger and the journal said "destroying" before this began (`condemn`); proof comes after it, from the
watcher, which goes on even if this operation is cancelled or the engine dies.
"""

from __future__ import annotations

import asyncio

import msgspec

from core.domain.events import Said
from core.operations.codec import durable
from core.operations.context import ctx
from core.operations.destroy import ask_destroy
from core.operations.timeline import Outcome, operation, step
from core.store.store import Tx

RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0)


@durable
class RetireOrder(msgspec.Struct, frozen=True, kw_only=True):
    operation: str
    workspaces: list[str]
    machines: list[str]
    actor: str


@operation("retire")
async def retire(order: RetireOrder) -> Outcome:
    """Ends when every machine was accepted for destruction and once listed as gone."""
    for machine_id in order.machines:
        await accept(machine_id)
    for machine_id in order.machines:
        await absent(machine_id)
    return await close(order)


@step("ask to destroy")
async def accept(machine_id: str) -> Outcome:
    """Until the provider accepts, however long it takes: giving up would leave a machine that bills."""
    tries = 0
    while not await ask_destroy(machine_id):
        await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
        tries += 1
    return Outcome(ok=True, detail=f"{machine_id}: accepted")


@step("first listing without it")
async def absent(machine_id: str) -> Outcome:
    context = ctx()
    machine = context.store.state.machines.get(machine_id)
    if machine is None or machine.provider_id is None or machine.state in ("destroyed", "failed"):
        return Outcome(ok=True, detail=f"{machine_id}: gone")
    account = context.accounts[machine.provider]
    while True:
        listing = await account.next()
        if listing.whole and machine.provider_id not in listing.machines:
            return Outcome(ok=True, detail=f"{machine_id}: not listed any more")
        if context.rules.poll_s:
            await asyncio.sleep(context.rules.poll_s)


@step("close")
async def close(order: RetireOrder) -> Outcome:
    def work(tx: Tx) -> None:
        for name in order.workspaces:
            workspace = tx.state.workspaces.get(name)
            if workspace is not None and workspace.state not in ("retired", "renting"):
                tx.say(Said(kind="workspace_retired", workspace=name, operation=order.operation, actor=order.actor))

    await ctx().store.write(work)
    return Outcome(ok=True, detail="proof by a second listing goes on behind")
