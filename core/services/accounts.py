"""Watches one provider's account: what is listed, what of it is ours, and what must be gone.

The sweep starts from the provider's list, never from our memory. One rule: "destroyed" is said only when two whole
listings, a grace apart, did not have the machine; until then destroy is called again and again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from core.domain.errors import ProviderError, RateLimited, StoreError
from core.domain.events import Said
from core.domain.machines import Stranger, cost_usd
from core.operations.context import Context, split_label
from core.operations.destroy import ask_destroy
from core.operations.views import AccountView, Listing
from core.providers.base import Provider, ProviderMachine
from core.services.observe import observe
from core.services.pace import after_failure, leave_alone, rest
from core.store.ledger import IntentRow
from core.store.store import Tx

log = logging.getLogger("understudy.accounts")

LEAST_S = 1.0  # Vast.ai's own threshold for the list call
DESTROY_AGAIN_S = 15.0
CREDIT_EVERY_S = 60.0
CREDIT_LOW_HOURS = 6.0


@dataclass
class AccountWatch:
    provider: Provider
    view: AccountView
    context: Context
    period_s: float
    jitter: Callable[[], float]
    lab: bool
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0
    _told_to_wait: bool = False
    _absent_since: dict[str, float] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _credit_at: float = -1e18
    _credit_warned: bool = False
    _credit_usd: float | None = None
    _destroys: set[asyncio.Task[bool]] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            pause = await self.poll()
            if pause is not None:
                await leave_alone(pause, self.hurried, None if self._told_to_wait else self.view.wanted)
            else:
                await rest(self.period_s, self.view.wanted, least_s=LEAST_S * self.scale, jitter=self.jitter)

    @property
    def scale(self) -> float:
        return 0.2 if self.lab else 1.0

    async def poll(self) -> float | None:
        """One listing and what follows from it; None when it went well, else seconds to leave the provider alone."""
        asked_at = self.context.monotonic()
        try:
            page = await self.provider.machines()
        except ProviderError as e:
            self._failures += 1
            self._told_to_wait = isinstance(e, RateLimited)
            self.view.error = str(e)
            await self._failed(e)
            return after_failure(e, self._failures, min(self.period_s, 2.0))
        self._failures = 0
        listing = Listing(
            asked_at, self.context.monotonic(), {m.provider_id: m for m in page.machines}, page.rows_skipped == 0
        )
        try:
            await self.sweep(listing)
            await self._credit()
            await self._recovered()
        except StoreError as e:
            self.view.error = str(e)
            return 2.0
        await self.view.publish(listing)
        return None

    # -- the sweep -----------------------------------------------------------------------------------------------

    async def sweep(self, listing: Listing) -> None:
        """Moves every intent that the listing says something about, and destroys what must be gone."""
        rows = [r for r in await self._live() if r.provider == self.provider.name]
        by_token = self._by_token(listing)
        for row in rows:
            seen = listing.machines.get(row.provider_id) if row.provider_id else by_token.get(row.token)
            if row.state in ("DESTROYING", "TOMBSTONE"):
                await self._must_go(row, seen, listing)
            elif row.state == "BOUND":
                await self._should_be(row, seen, listing)
        await self._strangers(listing, {r.token for r in rows}, {r.provider_id for r in rows if r.provider_id})

    def _left_at(self, listing: Listing) -> float:
        """When the listing's request left, by the engine's clock."""
        return self.context.clock() - (self.context.monotonic() - listing.asked_at)

    async def _live(self) -> list[IntentRow]:
        return await self.context.store.write(lambda tx: tx.ledger.live())

    def _by_token(self, listing: Listing) -> dict[str, ProviderMachine]:
        found = {}
        for machine in listing.machines.values():
            parts = split_label(machine.label)
            if parts is not None and parts[0] == self.context.owner:
                found[parts[1]] = machine
        return found

    async def _must_go(self, row: IntentRow, seen: ProviderMachine | None, listing: Listing) -> None:
        if seen is None:
            await self._absent(row, listing)
            return
        self._absent_since.pop(row.token, None)
        if row.provider_id is None:
            await self.context.store.write(lambda tx: _surfaced(tx, row, seen))
        last = self._asked_at.get(row.token, -1e18)
        machine = self.context.store.state.machines.get(row.machine)
        due = DESTROY_AGAIN_S if machine is not None and machine.destroy_accepted_at is not None else 2.0
        if listing.asked_at - last >= due * self.scale:
            self._asked_at[row.token] = listing.asked_at
            task = asyncio.create_task(ask_destroy(row.machine), name=f"destroy {row.machine}")
            self._destroys.add(task)
            task.add_done_callback(self._destroys.discard)

    async def _absent(self, row: IntentRow, listing: Listing) -> None:
        """First listing without it: noted; a later one, the grace apart: proven. One with a gap proves nothing."""
        if not listing.whole:
            return
        machine = self.context.store.state.machines.get(row.machine)
        if row.provider_id is not None and (machine is None or machine.destroy_accepted_at is None):
            await ask_destroy(row.machine)  # a listing may lag: nothing is absent before its destroy was accepted
            return
        since = row.updated_at if machine is None else (machine.destroy_accepted_at or row.updated_at)
        if self._left_at(listing) < since:
            return  # this listing left before: it proves nothing
        first = self._absent_since.setdefault(row.token, listing.asked_at)
        if first == listing.asked_at:
            if machine is not None and row.provider_id is not None:
                await self.context.store.say(
                    Said(kind="machine_absent_once", machine=row.machine, workspace=row.workspace)
                )
            return
        if listing.asked_at - first >= self.provider.absence_grace_s:
            self._absent_since.pop(row.token, None)
            await self.context.store.write(lambda tx: _proven(tx, row))

    async def _should_be(self, row: IntentRow, seen: ProviderMachine | None, listing: Listing) -> None:
        machine = self.context.store.state.machines.get(row.machine)
        if machine is None:
            return
        if seen is not None:
            self._absent_since.pop(row.token, None)
            await observe(self.context.store, machine, seen)
            return
        if not listing.whole:
            return
        age = self.context.clock() - (machine.rented_at or self.context.clock())
        first = self._absent_since.setdefault(row.token, listing.asked_at)
        grace = self.provider.absence_grace_s
        if age > grace and first != listing.asked_at and listing.asked_at - first >= grace:
            self._absent_since.pop(row.token, None)
            await self.context.store.write(lambda tx: _vanished(tx, row))
            await self.context.reach.drop(row.machine)

    # -- strangers -----------------------------------------------------------------------------------------------

    async def _strangers(self, listing: Listing, tokens: set[str], ids: set[str]) -> None:
        """Machines that no row explains: said once when seen, once when gone. Never touched.

        A label of ours whose intent is closed is no stranger: it came too late, and goes the way of the others.
        """
        state, name = self.context.store.state, self.provider.name
        known = {s.provider_id for s in state.strangers.values() if s.provider == name}
        booked = {m.provider_id for m in state.machines.values() if m.provider == name and m.provider_id}
        for machine in listing.machines.values():
            parts = split_label(machine.label)
            ours = parts is not None and parts[0] == self.context.owner and parts[1] in tokens
            if ours or machine.provider_id in ids or machine.provider_id in known:
                continue
            late = parts is not None and parts[0] == self.context.owner
            if (
                late
                and parts is not None
                and await self.context.store.write(partial(_late, token=parts[1], seen=machine))
            ):
                continue
            if machine.provider_id in booked:
                continue
            await self.context.store.say(_stranger_seen(name, machine, self.context.clock(), parts))
        for gone in known - set(listing.machines) if listing.whole else ():
            detail = {"provider": name, "provider_id": gone}
            await self.context.store.say(Said(kind="stranger_gone", detail=detail))

    # -- the provider itself -------------------------------------------------------------------------------------

    async def _credit(self) -> None:
        now = self.context.monotonic()
        if now - self._credit_at < CREDIT_EVERY_S:
            return
        self._credit_at = now
        try:
            self._credit_usd = (await self.provider.account()).credit_usd
        except ProviderError as e:
            log.warning("%s: the credit cannot be read: %s", self.provider.name, e)

    async def _failed(self, error: ProviderError) -> None:
        status = self.context.store.state.providers.get(self.provider.name)
        if status is None or status.ok or status.error != str(error):
            detail = {"provider": self.provider.name, "reason": str(error), "lab": self.lab}
            await self.context.store.say(Said(kind="provider_failed", detail=detail))

    async def _recovered(self) -> None:
        state, name = self.context.store.state, self.provider.name
        status = state.providers.get(name)
        credit = self._credit_usd
        detail = {"provider": name, "lab": self.lab, "credit_usd": credit}
        changed = status is not None and (status.credit_usd is None) != (credit is None)
        moved = status is not None and credit is not None and abs((status.credit_usd or 0) - credit) >= 1.0
        if status is None or not status.ok or changed or moved:
            await self.context.store.say(Said(kind="provider_recovered", detail=detail))
        burn = sum(m.burn_usd_per_hour for m in state.machines.values() if m.provider == name)
        hours = credit / burn if credit is not None and burn > 0 else None
        low = hours is not None and hours < CREDIT_LOW_HOURS
        if low and not self._credit_warned and hours is not None:
            await self.context.store.say(Said(kind="credit_low", detail=detail | {"hours_left": round(hours, 1)}))
        self._credit_warned = low


def _surfaced(tx: Tx, row: IntentRow, seen: ProviderMachine) -> None:
    """A machine whose create call had no answer does exist: it is named, and bills from when it was asked for."""
    if not tx.ledger.move(row.token, "TOMBSTONE", "TOMBSTONE", provider_id=seen.provider_id):
        return
    machine = tx.state.machines.get(row.machine)
    detail = {
        "provider": row.provider,
        "provider_id": seen.provider_id,
        "rented_at": machine.asked_at if machine is not None else row.created_at,
    }
    tx.say(Said(kind="surplus_found", machine=row.machine, workspace=row.workspace, detail=detail))


def _late(tx: Tx, *, token: str, seen: ProviderMachine) -> bool:
    """Opens a closed intent again for the machine that carries its label; False when no intent of ours had it."""
    row = tx.ledger.get(token)
    if row is None:
        return False
    if tx.ledger.move(token, "GONE", "TOMBSTONE", provider_id=seen.provider_id):
        detail = {"provider": row.provider, "provider_id": seen.provider_id, "rented_at": tx.now}
        detail |= {"destroyed_at": None, "destroy_accepted_at": None}
        tx.say(Said(kind="surplus_found", machine=row.machine, workspace=row.workspace, detail=detail))
    return True


def _proven(tx: Tx, row: IntentRow) -> None:
    if not (tx.ledger.move(row.token, "DESTROYING", "GONE") or tx.ledger.move(row.token, "TOMBSTONE", "GONE")):
        return
    machine = tx.state.machines.get(row.machine)
    if machine is None:
        return
    if machine.provider_id is None:
        detail: dict[str, object] = {"reason": "it never came to be: two listings without it"}
        tx.say(Said(kind="machine_failed", machine=row.machine, workspace=row.workspace, detail=detail))
        return
    detail = {"cost_usd": round(cost_usd(machine, tx.now), 6)}
    tx.say(Said(kind="machine_destroyed", machine=row.machine, workspace=row.workspace, detail=detail))


def _vanished(tx: Tx, row: IntentRow) -> None:
    """A machine that we did not destroy is not in the account any more: the provider or somebody else ended it."""
    if not tx.ledger.move(row.token, "BOUND", "GONE"):
        return
    machine = tx.state.machines.get(row.machine)
    reason = "it vanished from the account; nobody here destroyed it"
    if machine is not None:
        detail = {"reason": reason, "cost_usd": round(cost_usd(machine, tx.now), 6)}
        tx.say(Said(kind="machine_destroyed", machine=row.machine, workspace=row.workspace, detail=detail))
    workspace = tx.state.workspaces.get(row.workspace or "")
    if workspace is not None and workspace.primary == row.machine:
        tx.say(Said(kind="workspace_lost", machine=row.machine, workspace=workspace.name, detail={"reason": reason}))


def _stranger_seen(provider: str, machine: ProviderMachine, now: float, parts: tuple[str, str] | None) -> Said:
    stranger = Stranger(
        provider=provider,
        provider_id=machine.provider_id,
        gpu=machine.gpu,
        gpu_count=machine.gpu_count,
        usd_per_hour=machine.usd_per_hour,
        label=machine.label,
        seen_at=now,
        owner=parts[0] if parts else None,
    )
    detail = {
        "stranger": msgspec.to_builtins(stranger),
        "provider": provider,
        "provider_id": machine.provider_id,
        "gpu": machine.gpu,
        "gpu_count": machine.gpu_count,
    }
    return Said(kind="stranger_seen", detail=detail)
