"""The JSON objects of the command line, made from the engine's state. One rule: their fields are a contract for
scripts; fields are only added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain import api
from core.domain.budget import spend
from core.domain.events import Fact, sentence, severity
from core.domain.machines import GONE, Machine, Stranger, cost_usd
from core.domain.market import HostHistory, MarketStatus, Offer
from core.domain.operations import Operation
from core.domain.readings import MachineReading
from core.domain.state import State
from core.domain.units import rfc3339
from core.domain.workspaces import Workspace

MIB_PER_GB = 1024
CREDIT_LOW_HOURS = 6.0  # as the engine's own warning has it
ENDED = frozenset({"retired", "failed"})
_USD_DIGITS = 6


def usd(value: float | None) -> float | None:
    return None if value is None else round(value, _USD_DIGITS)


def age_s(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def offer(one: Offer, now: float, disk_gb: float) -> dict[str, Any]:
    """`all_in_usd_per_hour` includes a disk of `disk_gb`."""
    return {
        "id": one.id,
        "provider": one.provider,
        "gpu": one.gpu,
        "gpu_count": one.gpu_count,
        "vram_gb": round(one.vram_mib / MIB_PER_GB, 1),
        "kind": one.kind,
        "usd_per_hour": usd(one.usd_per_hour),
        "all_in_usd_per_hour": usd(one.all_in_usd_per_hour(disk_gb)),
        "usd_per_gpu_hour": usd(one.usd_per_gpu_hour),
        "region": one.region,
        "country": one.country,
        "reliability": one.reliability,
        "value": None if one.value is None else round(one.value, 1),
        "observed_at": rfc3339(one.observed_at),
        "age_s": age_s(one.observed_at, now),
        "source": one.source,
        "host_id": one.host_id,
        "verified": one.verified,
        "min_bid_usd_per_hour": usd(one.min_bid_usd_per_hour),
        "cpu_cores": one.cpu_cores,
        "disk_gb": one.disk_gb,
        "inet_down_mbps": one.inet_down_mbps,
        "inet_up_mbps": one.inet_up_mbps,
        "driver_version": one.driver_version,
    }


def market(status: MarketStatus, now: float) -> dict[str, Any]:
    return {
        "provider": status.provider,
        "ok": status.ok,
        "error": status.error,
        "age_s": age_s(status.at, now),
        "rows_skipped": status.rows_skipped,
        "count": status.count,
    }


def machine(one: Machine, reading: MachineReading | None, now: float) -> dict[str, Any]:
    gpus = [
        {
            "utilization_pct": g.utilization_pct,
            "memory_used_mib": g.memory_used_mib,
            "memory_total_mib": g.memory_total_mib,
            "temperature_c": g.temperature_c,
            "power_w": g.power_w,
        }
        for g in (reading.gpus if reading else [])
    ]
    return {
        "id": one.id,
        "provider": one.provider,
        "provider_id": one.provider_id,
        "workspace": one.workspace,
        "role": one.role,
        "state": one.state,
        "gpu": one.gpu,
        "gpu_count": one.gpu_count,
        "region": one.region,
        "zone": one.machine_ref or None,
        "usd_per_hour": usd(one.usd_per_hour),
        "rented_at": rfc3339(one.rented_at),
        "gpus": gpus,
        "reading_age_s": age_s(reading.at if reading else None, now),
        "kind": one.kind,
        "country": one.country,
        "host_id": one.host_id,
        "state_since": rfc3339(one.state_since),
        "reason": one.reason,
        "burn_usd_per_hour": usd(one.burn_usd_per_hour),
        "cost_usd": usd(cost_usd(one, now)),
        "ready_at": rfc3339(one.ready_at),
        "destroyed_at": rfc3339(one.destroyed_at),
        "expires_at": rfc3339(one.expires_at),
        "address": one.address,
        "port": one.port,
        "simulated": one.simulated,
    }


def stranger(one: Stranger, now: float) -> dict[str, Any]:
    """A machine of the account that is not ours; its id is what `machines adopt` takes."""
    return {
        "id": f"{one.provider}:{one.provider_id}",
        "provider": one.provider,
        "provider_id": one.provider_id,
        "workspace": None,
        "role": "stranger",
        "state": "stranger",
        "gpu": one.gpu,
        "gpu_count": one.gpu_count,
        "usd_per_hour": usd(one.usd_per_hour),
        "label": one.label,
        "owner": one.owner,
        "seen_age_s": age_s(one.seen_at, now),
    }


def endpoint(one: api.Endpoint | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "host": one.host,
        "port": one.port,
        "user": one.user,
        "identity_file": one.identity_file,
        "known_hosts": one.known_hosts,
        "alias": one.alias,
        "workspace_dir": one.workspace_dir,
    }


def workspace(one: Workspace, snapshot: api.Snapshot, reached: api.Endpoint | None, now: float) -> dict[str, Any]:
    """`at_risk.bytes` None: nothing copies it, so nobody knows; all of it is."""
    primary = snapshot.state.machines.get(one.primary or "")
    mine = machines_of(snapshot.state, one.name)
    if primary is None and one.state not in ENDED:
        primary = next((m for m in mine if m.state not in GONE), None)
    return {
        "name": one.name,
        "state": one.state,
        "epoch": one.epoch,
        "active": one.active,
        "primary": None if primary is None else machine(primary, snapshot.readings.get(primary.id), now),
        "standby": None,
        "protected": False,
        "lag_s": None,
        "at_risk": {"bytes": None, "age_s": age_s(primary.ready_at, now) if primary else None},
        "last_snapshot_age_s": None,
        "usd_per_hour": usd(sum(m.burn_usd_per_hour for m in mine)),
        "policy": {},
        "endpoint": endpoint(reached),
        "services": [],
        "state_since": rfc3339(one.state_since),
        "created_at": rfc3339(one.created_at),
        "reason": one.reason,
        "operation": one.operation,
    }


def machines_of(state: State, name: str) -> list[Machine]:
    """The workspace's machines that still count, newest first."""
    found = [m for m in state.machines.values() if m.workspace == name and m.state not in GONE]
    return sorted(found, key=lambda m: m.asked_at or 0.0, reverse=True)


def operation(one: Operation) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "workspace": one.workspace,
        "machine": one.machine,
        "state": one.state,
        "started_at": rfc3339(one.started_at),
        "ended_at": rfc3339(one.ended_at),
        "reason": one.reason,
        "steps": [
            {
                "name": s.name,
                "state": s.state,
                "attempt": s.attempt,
                "started_at": rfc3339(s.started_at),
                "took_s": None if s.took_s is None else round(s.took_s, 3),
                "detail": s.detail,
            }
            for s in one.steps
        ],
    }


def fact(one: Fact) -> dict[str, Any]:
    return {
        "seq": one.seq,
        "at": rfc3339(one.at),
        "kind": one.kind,
        "workspace": one.workspace,
        "machine": one.machine,
        "actor": one.actor,
        "detail": one.detail,
        "operation": one.operation,
        "severity": severity(one),
        "text": sentence(one),
    }


def host(one: HostHistory) -> dict[str, Any]:
    return {
        "id": f"{one.provider}:{one.host_id}",
        "provider": one.provider,
        "host_id": one.host_id,
        "rented": one.rented,
        "ready": one.ready,
        "refused": one.refused,
        "boot_s": None if one.boot_s is None else round(one.boot_s, 1),
        "last_reason": one.last_reason,
        "last_at": rfc3339(one.last_at),
        "blocked": one.blocked,
        "blocked_reason": one.blocked_reason,
    }


def budget(state: State, now: float) -> dict[str, Any]:
    spent = spend(state.machines.values(), state.spend_by_month, now)
    return {
        "usd_per_hour": state.budget.usd_per_hour,
        "usd_per_month": state.budget.usd_per_month,
        "machines": state.budget.machines,
        "spent": {
            "burn_usd_per_hour": usd(spent.burn_usd_per_hour),
            "committed_usd_per_hour": usd(spent.committed_usd_per_hour),
            "month_usd": usd(spent.month_usd),
            "machines": spent.machines,
        },
    }


def plan(one: api.Plan, now: float, disk_gb: float) -> dict[str, Any]:
    return {
        "offers": [offer(o, now, disk_gb) for o in one.offers],
        "all_in_usd_per_hour": usd(one.all_in_usd_per_hour),
        "usd_per_day": usd(one.usd_per_day),
        "usd_for_duration": usd(one.usd_for_duration),
        "budget_left_usd_per_hour": usd(one.budget_left_usd_per_hour),
        "budget_left_usd_month": usd(one.budget_left_usd_month),
        "machines_left": one.machines_left,
        "refused": one.refused,
        "hint": one.hint,
        "boot_s_expected": one.boot_s_expected,
    }


def alerts(state: State, markets: Mapping[str, MarketStatus]) -> list[dict[str, Any]]:
    """What an operator should look at now, worst first."""
    found = [
        {"severity": "bad", "text": f"{m.id}: {m.state}{': ' + m.reason if m.reason else ''}", "machine": m.id}
        for m in state.machines.values()
        if m.state == "lost"
    ]
    found.extend(
        {"severity": "warn", "text": f"{m.id}: its agent is silent: {m.reason}", "machine": m.id}
        for m in state.machines.values()
        if m.state == "ready" and m.agent == "lost"
    )
    for provider in state.providers.values():
        burn = sum(m.burn_usd_per_hour for m in state.machines.values() if m.provider == provider.name)
        if provider.credit_usd is not None and burn and provider.credit_usd < burn * CREDIT_LOW_HOURS:
            left = f"${provider.credit_usd:.2f} of credit left, about {provider.credit_usd / burn:.1f} h at this burn"
            found.append({"severity": "bad", "text": f"{provider.name}: {left}", "provider": provider.name})
        if not provider.ok:
            found.append({"severity": "bad", "text": f"{provider.name}: {provider.error}", "provider": provider.name})
    for status in markets.values():
        if not status.ok and not any(a["text"] == f"{status.provider}: {status.error}" for a in found):
            found.append(
                {"severity": "warn", "text": f"{status.provider}: {status.error}", "provider": status.provider}
            )
    found.extend(
        {"severity": "warn", "text": f"{s.provider}:{s.provider_id} bills in the account and is not ours"}
        for s in state.strangers.values()
    )
    return found
