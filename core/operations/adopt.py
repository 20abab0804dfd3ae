"""Adopt: take a machine of the account that no intent of ours explains, because the operator asked for it.

One rule: it is only ever asked for by a person; the sweep never adopts and never destroys what it cannot explain.
"""

from __future__ import annotations

import msgspec

from core.domain.errors import ProviderError
from core.domain.events import Said
from core.domain.machines import Machine
from core.domain.workspaces import UpSpec
from core.operations import arrive
from core.operations.codec import durable
from core.operations.context import ctx, label
from core.operations.names import machine_id_of
from core.operations.timeline import Outcome, operation, step
from core.providers.base import ProviderMachine
from core.store.store import Tx


@durable
class AdoptOrder(msgspec.Struct, frozen=True, kw_only=True):
    operation: str
    provider: str
    provider_id: str
    workspace: str
    public_key: str
    actor: str

    @property
    def token(self) -> str:
        return f"{self.workspace}.{self.operation}.0"


@operation("adopt")
async def adopt(order: AdoptOrder) -> Outcome:
    last = await take(order)
    machine_id = machine_id_of(order.token)
    for following in (arrive.boot, arrive.ssh, arrive.agent, arrive.note):
        if last.ok:
            last = await following(machine_id)
    if last.ok:
        last = await arrive.ready(machine_id, order.workspace)
    if last.ok:
        return last
    return await arrive.stranded(machine_id, order.workspace, last.detail)


@step("take it into the books")
async def take(order: AdoptOrder) -> Outcome:
    """Our key on it, our label on it, a row in the ledger; from here on it is ours like any other."""
    context = ctx()
    provider = context.providers[order.provider]
    listing = await context.accounts[order.provider].next()
    seen = listing.machines.get(order.provider_id)
    if seen is None:
        return Outcome(ok=False, final=True, detail="It is not in the account.")
    try:
        await provider.attach_key(order.provider_id, order.public_key)
        await context.store.write(lambda tx: _book(tx, order, seen, provider.simulated))
        await provider.set_label(order.provider_id, label(context.owner, order.token))
    except ProviderError as e:
        return Outcome(ok=False, final=True, detail=str(e))
    return Outcome(ok=True, detail=f"{seen.gpu_count}x {seen.gpu}, ${seen.usd_per_hour:.3f}/h")


def _book(tx: Tx, order: AdoptOrder, seen: ProviderMachine, simulated: bool) -> None:
    machine_id = machine_id_of(order.token)
    if tx.ledger.get(order.token) is not None:
        return
    tx.ledger.bind_known(
        order.token,
        machine=machine_id,
        workspace=order.workspace,
        provider=order.provider,
        provider_id=order.provider_id,
    )
    machine = Machine(
        id=machine_id,
        provider=order.provider,
        state="booting",
        state_since=tx.now,
        gpu=seen.gpu,
        gpu_count=seen.gpu_count,
        vram_mib=seen.vram_mib,
        kind=seen.kind,
        usd_per_hour=seen.usd_per_hour,
        disk_gb=seen.disk_gb or 0.0,
        storage_usd_per_hour=seen.storage_usd_per_hour,
        workspace=order.workspace,
        token=order.token,
        provider_id=order.provider_id,
        host_id=seen.host_id,
        machine_ref=seen.machine_ref,
        region=seen.region,
        country=seen.country,
        asked_at=tx.now,
        rented_at=tx.now,
        simulated=simulated,
    )
    gone = {"provider": order.provider, "provider_id": order.provider_id}
    about = {"workspace": order.workspace, "operation": order.operation, "actor": order.actor}
    tx.say(Said(kind="stranger_gone", detail=gone, **about))
    detail = {"new_machine": msgspec.to_builtins(machine), "provider": order.provider}
    tx.say(Said(kind="machine_adopted", machine=machine_id, detail=detail, **about))


def spec_of(seen: ProviderMachine) -> UpSpec:
    """What the workspace would have been asked for with, had it been asked for here."""
    return UpSpec(gpu=seen.gpu, count=seen.gpu_count, kind=seen.kind, provider=None, disk_gb=seen.disk_gb or 0.0)
