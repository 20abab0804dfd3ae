"""Condemning a machine: from here on it can only end. One place, because money hangs on it.

One rule: the ledger is moved and the fact is said in the same transaction; the provider is called only after that.
"""

from __future__ import annotations

from core.domain.events import ENGINE_ACTOR, Said
from core.domain.machines import GONE, cost_usd
from core.store.store import Tx


def condemn(
    tx: Tx,
    machine_id: str,
    *,
    reason: str,
    operation: str | None = None,
    actor: str = ENGINE_ACTOR,
    refused: bool = False,
) -> str | None:
    """Moves the machine's intent to where its machine will be destroyed; returns the provider's id if it is known.

    Whatever is in flight: PREPARED was never asked for and never will be; CALLING becomes a TOMBSTONE, whose machine is
    destroyed should it appear; BOUND becomes DESTROYING. Idempotent. `refused`: the machine was judged and given back.
    """
    machine = tx.state.machines.get(machine_id)
    row = tx.ledger.of_machine(machine_id)
    if machine is None or row is None or machine.state in GONE:
        return None

    def say(kind: str, **detail: object) -> None:
        tx.say(
            Said(
                kind=kind,
                machine=machine_id,
                workspace=machine.workspace,
                operation=operation,
                actor=actor,
                detail={"reason": reason, **detail},
            )
        )

    if tx.ledger.move(row.token, "PREPARED", "GONE"):
        say("machine_failed")
        return None
    tx.ledger.move(row.token, "CALLING", "TOMBSTONE")
    tx.ledger.move(row.token, "BOUND", "DESTROYING")
    if machine.state != "destroying":
        if refused:
            say("machine_refused", cost_usd=round(cost_usd(machine, tx.now), 6), destroy_asked_at=tx.now)
        else:
            say("machine_destroying", destroy_asked_at=tx.now)
    return row.provider_id
