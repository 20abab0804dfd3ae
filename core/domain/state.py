"""The state: a fold over facts. The engine and every client fold the same facts and so hold the same picture.

One rule: nothing changes but through `apply`; an object is replaced, never edited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core.domain.accounts import ProviderStatus
from core.domain.budget import Budget, by_month
from core.domain.events import Fact
from core.domain.machines import GONE, Machine, Stranger
from core.domain.market import HostHistory
from core.domain.operations import Operation, Step, with_step
from core.domain.workspaces import UpSpec, Workspace


class State(msgspec.Struct, kw_only=True):
    """All that facts have made. Dicts are by id; `spend_by_month` holds the stretches of cost that ended."""

    seq: int = 0
    workspaces: dict[str, Workspace] = {}
    machines: dict[str, Machine] = {}
    strangers: dict[str, Stranger] = {}
    operations: dict[str, Operation] = {}
    providers: dict[str, ProviderStatus] = {}
    hosts: dict[str, HostHistory] = {}
    budget: Budget = Budget()
    spend_by_month: dict[str, float] = {}


Changed = set[tuple[str, str]]

_MACHINE_STATES: dict[str, str] = {
    "machine_booting": "booting",
    "machine_checking": "checking",
    "machine_ready": "ready",
    "machine_lost": "lost",
    "machine_returned": "ready",
    "machine_paused": "lost",
    "machine_stopped": "stopped",
    "machine_started": "booting",
    "machine_refused": "destroying",
    "machine_destroying": "destroying",
    "surplus_found": "destroying",
    "machine_destroyed": "destroyed",
    "machine_failed": "failed",
}
_MACHINE_UPDATES = frozenset(
    {
        "machine_addressed",
        "machine_resumed",
        "machine_absent_once",
        "machine_destroy_accepted",
        "host_key_pinned",
        "agent_connected",
        "agent_lost",
        "create_ambiguous",
    }
)
_WORKSPACE_STATES: dict[str, str] = {
    "workspace_ready": "running",
    "workspace_retiring": "retiring",
    "workspace_retired": "retired",
    "workspace_failed": "failed",
    "workspace_lost": "suspect",
    "workspace_returned": "running",
}
_MACHINE_FIELDS = frozenset(f.name for f in msgspec.structs.fields(Machine)) - {"id", "state", "state_since"}
_WORKSPACE_FIELDS = frozenset(f.name for f in msgspec.structs.fields(Workspace)) - {"name", "state", "state_since"}


def apply(state: State, fact: Fact) -> Changed:
    """Folds one fact into the state; returns the (kind, key) of every object that it made, replaced or removed."""
    if fact.seq <= state.seq:
        return set()
    state.seq = fact.seq
    changed: Changed = set()
    _fold_machine(state, fact, changed)
    _fold_workspace(state, fact, changed)
    fold = _FOLDS.get(fact.kind)
    if fold is not None:
        fold(state, fact, changed)
    return changed


def _fold_machine(state: State, fact: Fact, changed: Changed) -> None:
    if fact.machine is None:
        return
    new = fact.detail.get("new_machine")
    if new is not None:
        made = msgspec.convert(new, Machine)
        state.machines[fact.machine] = msgspec.structs.replace(made, rate_since=made.rented_at)
        changed.add(("machines", fact.machine))
        return
    machine = state.machines.get(fact.machine)
    to = _MACHINE_STATES.get(fact.kind)
    if machine is None or (to is None and fact.kind not in _MACHINE_UPDATES):
        return
    fields = {k: v for k, v in fact.detail.items() if k in _MACHINE_FIELDS}
    if to is not None and to != machine.state:
        fields |= {"state": to, "state_since": fact.at}
        if to in ("ready", "booting", "checking") and "reason" not in fields:
            fields["reason"] = None
    if fact.kind == "machine_destroyed":
        fields["destroyed_at"] = fact.at
    new_machine = msgspec.structs.replace(machine, **fields)
    state.machines[fact.machine] = _close_stretch(state, machine, new_machine, fact.at, changed)
    changed.add(("machines", fact.machine))


def _close_stretch(state: State, old: Machine, new: Machine, at: float, changed: Changed) -> Machine:
    """When the rate changes, the stretch at the old one is added up and a new one begins."""
    if old.burn_usd_per_hour == new.burn_usd_per_hour and old.rented_at == new.rented_at:
        return new
    cost = new.cost_before_usd
    if old.rate_since is not None:
        for month, usd in by_month(old.rate_since, at, old.burn_usd_per_hour).items():
            state.spend_by_month[month] = state.spend_by_month.get(month, 0.0) + usd
            changed.add(("spend_by_month", month))
            cost += usd
    start = new.rented_at if old.rented_at is None and new.rented_at is not None else at
    return msgspec.structs.replace(new, cost_before_usd=cost, rate_since=start if new.bills else None)


def _fold_workspace(state: State, fact: Fact, changed: Changed) -> None:
    if fact.workspace is None:
        return
    if fact.kind == "workspace_asked":
        spec = msgspec.convert(fact.detail["spec"], UpSpec)
        state.workspaces[fact.workspace] = Workspace(
            name=fact.workspace,
            state="renting",
            state_since=fact.at,
            spec=spec,
            created_at=fact.at,
            operation=fact.operation,
            actor=fact.actor,
        )
        changed.add(("workspaces", fact.workspace))
        return
    workspace, to = state.workspaces.get(fact.workspace), _WORKSPACE_STATES.get(fact.kind)
    if workspace is None or to is None:
        return
    fields: dict[str, Any] = {k: v for k, v in fact.detail.items() if k in _WORKSPACE_FIELDS}
    if to != workspace.state:
        fields |= {"state": to, "state_since": fact.at}
    if fact.kind == "workspace_ready":
        fields |= {"primary": fact.machine, "active": "primary", "reason": None}
    if fact.kind == "workspace_returned":
        fields["reason"] = None
    if fact.kind == "workspace_retired":
        fields |= {"primary": None, "active": None}
    if fact.operation is not None:
        fields["operation"] = fact.operation
    state.workspaces[fact.workspace] = msgspec.structs.replace(workspace, **fields)
    changed.add(("workspaces", fact.workspace))


def _operation_started(state: State, fact: Fact, changed: Changed) -> None:
    if fact.operation is None:
        return
    state.operations[fact.operation] = Operation(
        id=fact.operation,
        kind=fact.detail["kind"],
        state="running",
        started_at=fact.at,
        workspace=fact.workspace,
        machine=fact.machine,
        actor=fact.actor,
        order=fact.detail.get("order") or {},
    )
    changed.add(("operations", fact.operation))


def _operation_ended(state: State, fact: Fact, changed: Changed) -> None:
    operation = state.operations.get(fact.operation or "")
    if operation is None or operation.state != "running":
        return
    to = fact.kind.removeprefix("operation_")
    fields = {"state": to, "ended_at": fact.at, "reason": fact.detail.get("reason")}
    fields["result"] = fact.detail.get("result") or {}
    state.operations[operation.id] = msgspec.structs.replace(operation, **fields)
    changed.add(("operations", operation.id))


def _step(state: State, fact: Fact, changed: Changed) -> None:
    operation = state.operations.get(fact.operation or "")
    if operation is None:
        return
    detail = fact.detail
    running = fact.kind == "step_started"
    step = Step(
        name=detail["step"],
        state="running" if running else "done" if fact.kind == "step_done" else "failed",
        attempt=detail.get("attempt", 1),
        started_at=fact.at if running else detail.get("started_at", fact.at),
        took_s=None if running else detail.get("took_s"),
        detail=str(detail.get("detail") or ""),
    )
    state.operations[operation.id] = with_step(operation, step)
    changed.add(("operations", operation.id))


def _stranger_seen(state: State, fact: Fact, changed: Changed) -> None:
    stranger = msgspec.convert(fact.detail["stranger"], Stranger)
    key = f"{stranger.provider}:{stranger.provider_id}"
    state.strangers[key] = stranger
    changed.add(("strangers", key))


def _stranger_gone(state: State, fact: Fact, changed: Changed) -> None:
    key = f"{fact.detail['provider']}:{fact.detail['provider_id']}"
    if state.strangers.pop(key, None) is not None:
        changed.add(("strangers", key))


def _provider(state: State, fact: Fact, changed: Changed) -> None:
    name = fact.detail["provider"]
    old = state.providers.get(name)
    ok = fact.kind != "provider_failed"
    state.providers[name] = ProviderStatus(
        name=name,
        ok=ok,
        since=fact.at if old is None or old.ok != ok else old.since,
        error=None if ok else fact.detail.get("reason"),
        credit_usd=fact.detail.get("credit_usd", old.credit_usd if old else None),
        lab=bool(fact.detail.get("lab", old.lab if old else False)),
    )
    changed.add(("providers", name))


def _host(state: State, fact: Fact, changed: Changed) -> None:
    """Host history moves with the machine's own facts, and with block and unblock."""
    machine = state.machines.get(fact.machine or "")
    provider = fact.detail.get("provider") or (machine.provider if machine else None)
    host_id = fact.detail.get("host_id") or (machine.host_id if machine else None)
    if not provider or not host_id:
        return
    key = f"{provider}:{host_id}"
    old = state.hosts.get(key) or HostHistory(provider=provider, host_id=host_id)
    match fact.kind:
        case "machine_booting":
            new = msgspec.structs.replace(old, rented=old.rented + 1, last_at=fact.at)
        case "machine_ready":
            took = fact.at - machine.rented_at if machine and machine.rented_at else 0.0
            new = msgspec.structs.replace(old, ready=old.ready + 1, boot_s_total=old.boot_s_total + took)
        case "machine_refused":
            reason = str(fact.detail.get("reason") or "")
            new = msgspec.structs.replace(old, refused=old.refused + 1, last_reason=reason, last_at=fact.at)
        case "host_blocked":
            new = msgspec.structs.replace(old, blocked=True, blocked_reason=fact.detail.get("reason"))
        case _:
            new = msgspec.structs.replace(old, blocked=False, blocked_reason=None)
    state.hosts[key] = new
    changed.add(("hosts", key))


def _budget(state: State, fact: Fact, changed: Changed) -> None:
    state.budget = msgspec.convert({k: fact.detail[k] for k in ("usd_per_hour", "usd_per_month", "machines")}, Budget)
    changed.add(("budget", ""))


def _tidied(state: State, fact: Fact, changed: Changed) -> None:
    """What ended before `before` leaves the picture; its facts stay in the journal."""
    before = float(fact.detail["before"])
    for operation in [o for o in state.operations.values() if o.ended_at is not None and o.ended_at < before]:
        del state.operations[operation.id]
        changed.add(("operations", operation.id))
    for machine in [m for m in state.machines.values() if m.state in GONE and m.state_since < before]:
        del state.machines[machine.id]
        changed.add(("machines", machine.id))
    kept = {m.workspace for m in state.machines.values()}
    for workspace in [w for w in state.workspaces.values() if w.state == "retired" and w.state_since < before]:
        if workspace.name not in kept:
            del state.workspaces[workspace.name]
            changed.add(("workspaces", workspace.name))


_FOLDS: dict[str, Callable[[State, Fact, Changed], None]] = {
    "operation_started": _operation_started,
    "operation_done": _operation_ended,
    "operation_failed": _operation_ended,
    "operation_cancelled": _operation_ended,
    "step_started": _step,
    "step_done": _step,
    "step_failed": _step,
    "stranger_seen": _stranger_seen,
    "stranger_gone": _stranger_gone,
    "provider_failed": _provider,
    "provider_recovered": _provider,
    "credit_low": _provider,
    "machine_booting": _host,
    "machine_ready": _host,
    "machine_refused": _host,
    "host_blocked": _host,
    "host_unblocked": _host,
    "budget_set": _budget,
    "picture_tidied": _tidied,
}
