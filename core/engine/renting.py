"""Asking for a machine: `up` and its plan.

One rule: an intent validates, writes and returns at once; what is wrong now is refused now, in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.domain import api
from core.domain.budget import check, spend
from core.domain.errors import IntentRefused
from core.domain.events import Said
from core.domain.machines import GONE
from core.domain.workspaces import MIN_DISK_GB, UpSpec, check_name
from core.engine.once import Requests, plain
from core.engine.permission import allow
from core.operations.context import Context
from core.operations.rent import RentOrder, candidates, price
from core.operations.timeline import valid_id
from core.store.store import Tx

ENDED = ("retired", "failed")
FRESH_S = 60.0
MIN_FOR_S = 60.0


@dataclass
class Renting:
    context: Context
    requests: Requests

    async def up(self, intent: api.UpIntent, actor: str) -> api.Accepted:
        allow(actor, "rent", intent.name)
        check_spec(intent.spec)
        check_name(intent.name)
        order = RentOrder(
            operation=valid_id(intent.operation),
            workspace=intent.name,
            spec=intent.spec,
            actor=actor,
            attempts=self.context.rules.attempts,
        )

        def begin(tx: Tx) -> api.Accepted:
            old = tx.state.workspaces.get(intent.name)
            if old is not None and old.state not in ENDED:
                raise IntentRefused(
                    f"The workspace {intent.name} exists already ({old.state}).",
                    hint=f"Choose another name, or retire it: understudy down {intent.name}.",
                )
            left = [m.id for m in tx.state.machines.values() if m.workspace == intent.name and m.state not in GONE]
            if left:
                raise IntentRefused(
                    f"Machines of an earlier {intent.name} are still being destroyed: {', '.join(left)}.",
                    hint="Wait for the proof, or choose another name.",
                )
            self._refuse_over_budget(tx, intent.spec)
            spec = intent.spec
            about = {"workspace": intent.name, "operation": intent.operation, "actor": actor}
            detail = {"spec": msgspec.to_builtins(spec), "gpu": spec.gpu or "any GPU", "gpu_count": spec.count}
            tx.say(Said(kind="workspace_asked", detail=detail, **about))
            tx.say(Said(kind="operation_started", detail={"kind": "rent", "order": plain(order)}, **about))
            return api.Accepted(operation=intent.operation, workspace=intent.name)

        return await self.requests.once(intent, begin)

    def _refuse_over_budget(self, tx: Tx, spec: UpSpec) -> None:
        """Refuses now what would be refused later: the cheapest offer that fits is over a limit."""
        good = candidates(self.context.market.all_offers(), spec, [])
        usd = price(good[0], spec)[1] if good else 0.0
        check(tx.state.budget, spend(tx.state.machines.values(), tx.state.spend_by_month, tx.now), usd, spec.for_s)

    async def plan(self, intent: api.UpIntent, actor: str) -> api.Plan:
        """What `up` would do now. Changes nothing."""
        allow(actor, "plan", intent.name)
        check_spec(intent.spec)
        spec, state, now = intent.spec, self.context.store.state, self.context.clock()
        wanted = [spec.provider] if spec.provider else list(self.context.providers)
        offers = candidates(await self.context.market.fresh(wanted, FRESH_S, 30.0), spec, [])
        spent = spend(state.machines.values(), state.spend_by_month, now)
        usd = price(offers[0], spec)[1] if offers else None
        refused, hint = None if offers else "No offer fits.", ""
        try:
            check(state.budget, spent, usd or 0.0, spec.for_s)
            check_name(intent.name)
        except IntentRefused as e:
            refused, hint = str(e), e.hint
        host = state.hosts.get(f"{offers[0].provider}:{offers[0].host_id}") if offers else None
        return api.Plan(
            offers=offers[: self.context.rules.attempts],
            all_in_usd_per_hour=usd,
            usd_per_day=None if usd is None else usd * 24,
            usd_for_duration=None if usd is None or spec.for_s is None else usd * spec.for_s / 3600,
            budget_left_usd_per_hour=state.budget.usd_per_hour - spent.committed_usd_per_hour,
            budget_left_usd_month=state.budget.usd_per_month - spent.month_usd,
            machines_left=state.budget.machines - spent.machines,
            refused=refused,
            hint=hint,
            boot_s_expected=host.boot_s if host else None,
        )


def check_spec(spec: UpSpec) -> None:
    """Raises IntentRefused for a wish that no offer can mean."""
    if spec.gpu is None and spec.offer is None:
        raise IntentRefused("No GPU was named.", hint="Name one (--gpu 4090) or an offer (--offer ID).")
    if spec.count < 1:
        raise IntentRefused("The number of GPUs is at least 1.")
    if spec.disk_gb < MIN_DISK_GB:
        raise IntentRefused(f"The disk is at least {MIN_DISK_GB:.0f} GB.")
    if spec.for_s is not None and spec.for_s < MIN_FOR_S:
        raise IntentRefused(f"--for is at least {MIN_FOR_S:.0f} s.")
    if spec.max_usd_per_hour is not None and spec.max_usd_per_hour <= 0:
        raise IntentRefused("The price limit must be above zero.")
