"""What happened: a Fact is kept for ever and never dropped. Actors say who asked for it.

One rule: any state on the screen can be explained from the facts alone (`state.apply` folds them).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Severity = Literal["info", "good", "warn", "bad"]

ENGINE_ACTOR = "engine"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    `seq` only grows and has no meaning beyond order; `at` is epoch seconds by the engine's clock; `kind` is past tense;
    `detail` holds the fields that the fold needs, JSON values only.
    """

    seq: int
    at: float
    kind: str
    workspace: str | None = None
    machine: str | None = None
    operation: str | None = None
    actor: str = ENGINE_ACTOR
    detail: dict[str, Any] = {}


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A fact before the store gave it its number and its time."""

    kind: str
    workspace: str | None = None
    machine: str | None = None
    operation: str | None = None
    actor: str = ENGINE_ACTOR
    detail: dict[str, Any] = {}


# kind -> (severity, sentence). The sentence is filled from detail, workspace and machine; a missing value reads "–".
SENTENCES: dict[str, tuple[Severity, str]] = {
    "engine_started": ("info", "engine started, version {version}"),
    "engine_stopped": ("info", "engine stopped"),
    "workspace_asked": ("info", "{workspace}: asked for {gpu_count}x {gpu}"),
    "workspace_ready": ("good", "{workspace}: ready on {machine}"),
    "workspace_retiring": ("info", "{workspace}: being retired"),
    "workspace_retired": ("info", "{workspace}: retired"),
    "workspace_failed": ("bad", "{workspace}: failed: {reason}"),
    "workspace_lost": ("bad", "{workspace}: its machine {machine} is lost: {reason}"),
    "workspace_returned": ("good", "{workspace}: its machine {machine} is back"),
    "machine_asked": ("info", "{machine}: asking {provider} for {gpu_count}x {gpu} at ${usd_per_hour}/h"),
    "machine_booting": ("info", "{machine}: accepted by {provider} as {provider_id}, booting"),
    "machine_addressed": ("info", "{machine}: has an address"),
    "machine_checking": ("info", "{machine}: answers, being checked"),
    "machine_ready": ("good", "{machine}: ready"),
    "machine_refused": ("warn", "{machine}: given back: {reason} (finding out cost ${cost_usd})"),
    "machine_lost": ("bad", "{machine}: lost: {reason}"),
    "machine_returned": ("good", "{machine}: answers again"),
    "machine_paused": ("warn", "{machine}: paused by the market: {reason}"),
    "machine_resumed": ("info", "{machine}: runs again at its provider"),
    "machine_stopped": ("info", "{machine}: stopped; its disk keeps billing"),
    "machine_started": ("info", "{machine}: start asked for"),
    "machine_destroying": ("info", "{machine}: destroy asked for: {reason}"),
    "machine_destroy_accepted": ("info", "{machine}: the provider accepted the destroy"),
    "machine_absent_once": ("info", "{machine}: first listing without it"),
    "machine_destroyed": ("good", "{machine}: destroyed, proven by two listings; cost ${cost_usd}"),
    "machine_failed": ("bad", "{machine}: failed: {reason}"),
    "machine_adopted": ("info", "{machine}: adopted from the account of {provider}"),
    "create_ambiguous": (
        "warn",
        "{machine}: the create call got no answer; if it took effect, it will be destroyed",
    ),
    "surplus_found": ("warn", "{provider}: {provider_id} carries our label but no live intent: destroying it"),
    "destroy_failed": ("warn", "{machine}: destroy not accepted yet: {reason}; trying again"),
    "host_key_pinned": ("info", "{machine}: host key pinned, {fingerprint}"),
    "host_key_changed": ("bad", "{machine}: HOST KEY CHANGED, everything on it stopped"),
    "agent_connected": ("info", "{machine}: agent connected"),
    "agent_lost": ("warn", "{machine}: agent silent: {reason}"),
    "operation_started": ("info", "{workspace}: {kind} started"),
    "step_started": ("info", "{workspace}: {step} …"),
    "step_done": ("info", "{workspace}: {step}: {detail}"),
    "step_failed": ("warn", "{workspace}: {step}: {detail}"),
    "operation_done": ("good", "{workspace}: {kind} done"),
    "operation_failed": ("bad", "{workspace}: {kind} failed: {reason}"),
    "operation_cancelled": ("info", "{workspace}: {kind} cancelled"),
    "stranger_seen": ("warn", "{provider}: {provider_id} ({gpu_count}x {gpu}) is in the account and not ours"),
    "stranger_gone": ("info", "{provider}: stranger {provider_id} is gone"),
    "provider_failed": ("warn", "{provider}: {reason}"),
    "provider_recovered": ("good", "{provider}: answers"),
    "credit_low": ("bad", "{provider}: ${credit_usd} of credit left, about {hours_left} h at this burn"),
    "host_blocked": ("warn", "{provider}: host {host_id} blocked: {reason}"),
    "host_unblocked": ("info", "{provider}: host {host_id} unblocked"),
    "budget_set": ("info", "budget: ${usd_per_hour}/h, ${usd_per_month}/month, {machines} machines"),
    "secret_set": ("info", "secret {name} set"),
    "secret_removed": ("info", "secret {name} removed"),
    "picture_tidied": ("info", "what ended long ago left the screen; the journal keeps it"),
    "lab_fault": ("warn", "lab: fault {fault} on {target}"),
}


class _Dash(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "–"


def severity(fact: Fact) -> Severity:
    return SENTENCES.get(fact.kind, ("info", ""))[0]


def sentence(fact: Fact) -> str:
    """The fact as one plain sentence. Text in it that came from outside was cleaned when it was stored."""
    template = SENTENCES.get(fact.kind, ("info", "{kind}"))[1]
    words = _Dash({"kind": fact.kind, "workspace": fact.workspace, "machine": fact.machine})
    words.update({k: _short(v) for k, v in fact.detail.items() if v is not None})
    return template.format_map(words)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10 else f"{value:.2f}"
    return value
