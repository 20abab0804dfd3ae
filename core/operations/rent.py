"""Rent: from a wish to a machine that was judged and is ready, or to a reason; safe against kill -9 at any moment.

The steps: choose, ask, boot, ssh, agent, check, ready. One rule: a machine that is not what its offer said is given
back on the spot, its host remembered, and the next offer tried.
"""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from core.domain.budget import check as check_budget
from core.domain.budget import spend
from core.domain.errors import (
    AuthRefused,
    IntentRefused,
    NoCapacity,
    ProviderError,
    QuotaReached,
)
from core.domain.events import Said
from core.domain.machines import Machine
from core.domain.market import Offer, OfferQuery, cheapest_first, fits
from core.domain.units import HOURS_PER_MONTH
from core.domain.workspaces import UpSpec
from core.operations import arrive
from core.operations.codec import durable
from core.operations.condemn import condemn
from core.operations.context import ctx, label
from core.operations.destroy import ask_destroy
from core.operations.names import machine_id_of
from core.operations.timeline import Outcome, operation, step
from core.providers.base import RentRequest
from core.store.store import Tx

CALLS_MAX = 20  # create calls of one operation: refusals that cost nothing do not count as attempts, but they end
BID_MARGIN = 1.10  # above the floor to win now: floors move, and the market outbids the lowest first
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


@durable
class RentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """All that a rent was asked with; kept with the operation so that it reads the same after any crash."""

    operation: str
    workspace: str
    spec: UpSpec
    actor: str
    attempts: int


@durable
class Choice(Outcome, frozen=True, kw_only=True):
    offer: Offer | None = None
    token: str = ""
    machine: str = ""


@operation("rent")
async def rent(order: RentOrder) -> Outcome:
    """Ends with a ready workspace, or failed with everything given back."""
    tried: list[str] = []
    counted, last = 0, Outcome(ok=False, detail="No offer fits.")
    for call in range(CALLS_MAX):
        choice = await choose(order, call, tried)
        if choice.offer is None:
            return await give_up(order, last if tried and not choice.final else choice)
        tried.append(choice.offer.id)
        last = await ask(order, choice)
        for following in (arrive.boot, arrive.ssh, arrive.agent, arrive.check):
            if last.ok:
                last = await following(choice.machine)
        if last.ok:
            last = await arrive.ready(choice.machine, order.workspace)
        if last.ok:
            return last
        await give_back(order, choice.machine, last)
        counted += last.counts
        if last.final or counted >= order.attempts:
            break
    return await give_up(order, last)


def candidates(offers: list[Offer], spec: UpSpec, tried: list[str]) -> list[Offer]:
    """The offers that `spec` means and that were not tried, in the order in which they are taken."""
    named = [o for o in offers if o.id == spec.offer and o.id not in tried]
    if spec.offer is not None and not spec.or_like:
        return named
    query = OfferQuery(
        gpu=spec.gpu,
        count=spec.count,
        kind=spec.kind,
        provider=spec.provider,
        region=spec.region,
        max_usd_per_hour=spec.max_usd_per_hour,
        min_vram_gb=spec.min_vram_gb,
        min_reliability=spec.min_reliability,
    )
    hosts = ctx().store.state.hosts
    refs = {o.machine_ref for o in offers if o.id in tried}
    good = [
        o
        for o in offers
        if fits(o, query, spec.disk_gb)
        and o.machine_ref not in refs
        and (o.disk_gb is None or o.disk_gb >= spec.disk_gb)
        and (spec.for_s is None or o.max_duration_s is None or o.max_duration_s >= spec.for_s)
        and not ((h := hosts.get(f"{o.provider}:{o.host_id}")) is not None and (h.blocked or h.never_worked))
    ]
    return named + [o for o in cheapest_first(good, spec.disk_gb) if o not in named]


def price(offer: Offer, spec: UpSpec) -> tuple[float, float]:
    """(USD per hour for the GPUs, all-in with the disk). A bid lies a little above the floor, under the limit."""
    disk = spec.disk_gb * offer.storage_usd_per_gb_month / HOURS_PER_MONTH
    gpu = offer.usd_per_hour
    if offer.kind == "spot":
        gpu = round((offer.min_bid_usd_per_hour or offer.usd_per_hour) * BID_MARGIN, 4)
        if spec.max_usd_per_hour is not None:
            gpu = max(offer.min_bid_usd_per_hour or 0.0, min(gpu, spec.max_usd_per_hour - disk))
    return gpu, gpu + disk


@step("choose an offer")
async def choose(order: RentOrder, call: int, tried: list[str]) -> Choice:
    context = ctx()
    workspace = context.store.state.workspaces.get(order.workspace)
    if workspace is None or workspace.state != "renting" or workspace.operation != order.operation:
        return Choice(ok=False, final=True, detail="It was cancelled.")
    wanted = [order.spec.provider] if order.spec.provider else list(context.providers)
    offers = await context.market.fresh(wanted, context.rules.offer_max_age_s, timeout_s=30.0)
    good = candidates(offers, order.spec, tried)
    if not good:
        return Choice(ok=False, detail=_why_none(order.spec, wanted, bool(tried)))
    offer = good[0]
    token = f"{order.workspace}.{order.operation}.{call}"
    usd = price(offer, order.spec)[1]
    detail = f"{offer.gpu_count}x {offer.gpu}, {offer.country or '–'}, ${usd:.3f}/h, host {offer.host_id}"
    return Choice(ok=True, detail=detail, offer=offer, token=token, machine=machine_id_of(token))


def _why_none(spec: UpSpec, wanted: list[str], tried: bool) -> str:
    if spec.offer is not None and tried and not spec.or_like:
        return f"Only offer {spec.offer} was asked for."
    if spec.offer is not None and not spec.or_like:
        return f"Offer {spec.offer} is gone from the market."
    failing = [s.error for p in wanted if (s := ctx().market.status.get(p)) is not None and not s.ok and s.error]
    if failing:
        return f"The market cannot be read: {failing[0]}"
    more = "more " if tried else ""
    limit = f" under ${spec.max_usd_per_hour}/h" if spec.max_usd_per_hour else ""
    return f"No {more}offer fits: {spec.count}x {spec.gpu or 'any GPU'}, {spec.kind}{limit}."


@step("ask for it")
async def ask(order: RentOrder, choice: Choice) -> Outcome:
    """Calls the provider at most once for this token, ever; a token whose outcome is unknown is never used again."""
    offer, context = choice.offer, ctx()
    if offer is None:
        raise IntentRefused("There is nothing to ask for.")
    provider = context.providers[offer.provider]
    may_call = await context.store.write(lambda tx: _claim(tx, order, choice, offer, provider.simulated))
    if isinstance(may_call, Outcome):
        return may_call
    gpu_usd, _ = price(offer, order.spec)
    request = RentRequest(
        offer_id=offer.id,
        label=label(context.owner, choice.token),
        image=order.spec.image or context.rules.image or provider.default_image,
        disk_gb=order.spec.disk_gb,
        price_usd_per_hour=gpu_usd if offer.kind == "spot" else None,
    )
    try:
        rented = await provider.rent(request)
    except ProviderError as e:
        return await context.store.write(partial(_not_rented, choice=choice, error=e))
    return await context.store.write(lambda tx: _bind(tx, order, choice, rented.provider_id, rented.own_key))


def _claim(tx: Tx, order: RentOrder, choice: Choice, offer: Offer, simulated: bool) -> Outcome | None:
    """PREPARED and CALLING in one transaction, with the limits judged in it; None: the call is ours to make."""
    row = tx.ledger.get(choice.token)
    if row is None:
        workspace = tx.state.workspaces.get(order.workspace)
        if workspace is None or workspace.state != "renting" or workspace.operation != order.operation:
            return Outcome(ok=False, final=True, detail="It was cancelled.")
        machine = _new_machine(order, choice, offer, simulated, tx.now)
        try:
            spent = spend(tx.state.machines.values(), tx.state.spend_by_month, tx.now)
            check_budget(tx.state.budget, spent, machine.usd_per_hour, order.spec.for_s)
        except IntentRefused as e:
            return Outcome(ok=False, final=True, detail=str(e))
        tx.ledger.prepare(choice.token, machine=machine.id, workspace=order.workspace, provider=offer.provider)
        _say_asked(tx, order, machine)
    elif row.state == "BOUND":
        return Outcome(ok=True, detail=f"accepted as {row.provider_id}")  # we died after the bind
    elif row.state == "CALLING":  # we died inside the call: its outcome is unknown
        _lost_answer(tx, choice, "the engine was stopped during the call")
        return Outcome(ok=False, counts=False, detail="The answer to the create call was lost; it is watched for.")
    elif row.state != "PREPARED":
        return Outcome(ok=False, counts=False, detail="This attempt had ended before.")
    tx.ledger.move(choice.token, "PREPARED", "CALLING")
    return None


def _say_asked(tx: Tx, order: RentOrder, machine: Machine) -> None:
    detail = {
        "new_machine": msgspec.to_builtins(machine),
        "provider": machine.provider,
        "gpu": machine.gpu,
        "gpu_count": machine.gpu_count,
        "usd_per_hour": machine.usd_per_hour,
    }
    tx.say(
        Said(
            kind="machine_asked",
            machine=machine.id,
            workspace=order.workspace,
            operation=order.operation,
            actor=order.actor,
            detail=detail,
        )
    )


def _new_machine(order: RentOrder, choice: Choice, offer: Offer, simulated: bool, now: float) -> Machine:
    gpu_usd, all_in = price(offer, order.spec)
    return Machine(
        id=choice.machine,
        provider=offer.provider,
        state="asked",
        state_since=now,
        gpu=offer.gpu,
        gpu_count=offer.gpu_count,
        vram_mib=offer.vram_mib,
        kind=offer.kind,
        usd_per_hour=round(all_in, 6),
        disk_gb=order.spec.disk_gb,
        storage_usd_per_hour=round(all_in - gpu_usd, 6),
        workspace=order.workspace,
        token=choice.token,
        host_id=offer.host_id,
        machine_ref=offer.machine_ref,
        region=offer.region,
        country=offer.country,
        driver_version=offer.driver_version,
        asked_at=now,
        expires_at=None if order.spec.for_s is None else now + order.spec.for_s,
        simulated=simulated,
    )


def _bind(tx: Tx, order: RentOrder, choice: Choice, provider_id: str, own_key: str | None) -> Outcome:
    if not tx.ledger.move(choice.token, "CALLING", "BOUND", provider_id=provider_id, own_key=own_key):
        # cancelled while the call was under way: the watcher finds it in the account and destroys it
        return Outcome(ok=False, final=True, detail="It was cancelled.")
    tx.say(
        Said(
            kind="machine_booting",
            machine=choice.machine,
            workspace=order.workspace,
            operation=order.operation,
            actor=order.actor,
            detail={
                "provider": choice.offer.provider if choice.offer else "",
                "provider_id": provider_id,
                "rented_at": tx.now,
            },
        )
    )
    return Outcome(ok=True, detail=f"accepted as {provider_id}")


def _lost_answer(tx: Tx, choice: Choice, reason: str) -> None:
    if tx.ledger.move(choice.token, "CALLING", "TOMBSTONE"):
        tx.say(Said(kind="create_ambiguous", machine=choice.machine, detail={}))
        tx.say(
            Said(
                kind="machine_destroying",
                machine=choice.machine,
                detail={"reason": f"it may exist: {reason}", "destroy_asked_at": tx.now},
            )
        )


def _not_rented(tx: Tx, choice: Choice, error: ProviderError) -> Outcome:
    final = isinstance(error, (AuthRefused, QuotaReached))
    left_behind = error.left_behind if isinstance(error, NoCapacity) else None
    if error.outcome_unknown or left_behind is not None:
        _lost_answer(tx, choice, str(error))
        if left_behind is not None and tx.ledger.move(choice.token, "TOMBSTONE", "TOMBSTONE", provider_id=left_behind):
            detail = {"provider": error.provider, "provider_id": left_behind, "rented_at": tx.now}
            tx.say(Said(kind="surplus_found", machine=choice.machine, detail=detail))
    elif tx.ledger.move(choice.token, "CALLING", "GONE"):
        tx.say(Said(kind="machine_failed", machine=choice.machine, detail={"reason": str(error)}))
    # what may exist may bill: only a refusal that made nothing is free
    counts = error.outcome_unknown or left_behind is not None
    return Outcome(ok=False, final=final, counts=counts, detail=str(error))


@step("give it back")
async def give_back(order: RentOrder, machine_id: str, why: Outcome) -> Outcome:
    """Condemns the machine, calls destroy, and waits a little before the next offer when the cloud is in trouble."""
    context = ctx()
    known = context.store.state.machines.get(machine_id)
    if known is None or known.state in ("failed", "destroyed"):
        await _breathe(order)
        return Outcome(ok=True, detail="nothing was rented")
    judged = known.state in ("booting", "checking")  # it had its chance: the reason belongs to its host's history
    await context.store.write(
        lambda tx: condemn(tx, machine_id, reason=why.detail, operation=order.operation, refused=judged)
    )
    accepted = await ask_destroy(machine_id)
    await _breathe(order)
    return Outcome(ok=True, detail="accepted" if accepted else "not accepted yet, it is tried on")


async def _breathe(order: RentOrder) -> None:
    known = ctx().store.state.operations.get(order.operation)
    failed = sum(1 for s in known.steps if s.name == "ask for it" and s.state == "failed") if known else 0
    if failed:
        await asyncio.sleep(BACKOFF_S[min(failed, len(BACKOFF_S)) - 1])


@step("give up")
async def give_up(order: RentOrder, why: Outcome) -> Outcome:
    def work(tx: Tx) -> None:
        workspace = tx.state.workspaces.get(order.workspace)
        if workspace is not None and workspace.state == "renting" and workspace.operation == order.operation:
            detail = {"reason": why.detail}
            tx.say(Said(kind="workspace_failed", workspace=order.workspace, operation=order.operation, detail=detail))

    await ctx().store.write(work)
    return Outcome(ok=False, final=True, detail=why.detail)
