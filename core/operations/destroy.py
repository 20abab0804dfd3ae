"""Calling a provider's destroy: at least once until accepted, by whoever is nearest. Idempotent.

One rule: this says "accepted" at most; "destroyed" is said only by the watcher that read two listings without it.
"""

from __future__ import annotations

from core.domain.errors import ProviderError
from core.domain.events import Said
from core.operations.context import ctx


async def ask_destroy(machine_id: str) -> bool:
    """One call; True when the provider has accepted (or knows no such machine). A refusal becomes a fact."""
    context = ctx()
    machine = context.store.state.machines.get(machine_id)
    if machine is None or machine.provider_id is None:
        return True
    provider = context.providers.get(machine.provider)
    if provider is None:
        return False
    try:
        await provider.destroy(machine.provider_id)
    except ProviderError as e:
        if context.destroy_refusals.get(machine_id) == str(e):
            return False  # said already: it is tried again every few seconds
        context.destroy_refusals[machine_id] = str(e)
        await context.store.say(
            Said(
                kind="destroy_failed",
                machine=machine_id,
                workspace=machine.workspace,
                detail={"reason": str(e), "provider": machine.provider},
            )
        )
        return False
    if machine.destroy_accepted_at is None:
        at = context.clock()
        await context.store.say(
            Said(
                kind="machine_destroy_accepted",
                machine=machine_id,
                workspace=machine.workspace,
                detail={"destroy_accepted_at": at},
            )
        )
    await context.reach.drop(machine_id)
    return True
