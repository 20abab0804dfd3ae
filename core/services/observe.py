"""What a listing says of a machine of ours that should be there: its address, its state, paused, dead or back.

One rule: only a change becomes a fact; while an operation brings the machine up, its state is the operation's to say.
"""

from __future__ import annotations

from typing import Any

from core.domain.events import Said
from core.domain.machines import Machine
from core.providers.base import ProviderMachine
from core.store.store import Store, Tx

_WORDS = {
    "paused": "outbid; its disk is kept and bills, it resumes when the bid wins again",
    "dead": "its host is gone or its container ended",
    "stopped": "stopped at the provider, not from here",
}


async def observe(store: Store, machine: Machine, seen: ProviderMachine) -> None:
    """Says what changed. Idempotent; reads the machine again inside the transaction."""
    if _said(machine, seen):
        await store.write(lambda tx: _tell(tx, machine.id, seen))


def _said(machine: Machine, seen: ProviderMachine) -> list[Said]:
    about: dict[str, Any] = {"machine": machine.id, "workspace": machine.workspace}
    found: list[Said] = []
    best = seen.addresses[0] if seen.addresses else None
    if machine.state in ("ready", "lost") and best and (machine.address, machine.port) != (best.host, best.port):
        detail: dict[str, object] = {"address": best.host, "port": best.port, "user": best.user}
        found.append(Said(kind="machine_addressed", detail=detail, **about))
    if machine.state == "ready" and seen.state in _WORDS:
        kind = "machine_paused" if seen.state == "paused" else "machine_lost"
        reason = f"{_WORDS[seen.state]} ({seen.status_text})" if seen.status_text else _WORDS[seen.state]
        found.append(Said(kind=kind, detail={"reason": reason, "provider_state": seen.state}, **about))
    if machine.state in ("ready", "lost") and machine.provider_state in _WORDS and seen.state == "running":
        found.append(Said(kind="machine_resumed", detail={"provider_state": seen.state}, **about))
        if machine.state == "lost" and machine.agent == "connected":  # its stream never broke: nobody else would say it
            found.append(Said(kind="machine_returned", **about))
    if machine.state == "stopped" and seen.state == "running":
        found.append(Said(kind="machine_started", detail={"provider_state": seen.state}, **about))
    return found


def _tell(tx: Tx, machine_id: str, seen: ProviderMachine) -> None:
    machine = tx.state.machines.get(machine_id)
    if machine is None:
        return
    for said in _said(machine, seen):
        tx.say(said)
        workspace = tx.state.workspaces.get(machine.workspace or "")
        ours = workspace is not None and workspace.primary == machine_id
        if said.kind == "machine_returned" and workspace is not None and ours and workspace.state == "suspect":
            tx.say(Said(kind="workspace_returned", machine=machine_id, workspace=workspace.name))
        lost = said.kind in ("machine_paused", "machine_lost")
        if lost and workspace is not None and ours and workspace.state == "running":
            tx.say(
                Said(
                    kind="workspace_lost",
                    machine=machine_id,
                    workspace=workspace.name,
                    detail={"reason": said.detail["reason"]},
                )
            )
