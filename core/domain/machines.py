"""Machines: what is rented, in which state, and what it costs. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.domain.units import SECONDS_PER_HOUR, Kind

MachineState = Literal["asked", "booting", "checking", "ready", "lost", "stopped", "destroying", "destroyed", "failed"]
Role = Literal["primary", "standby", "none"]

BILLING: frozenset[str] = frozenset({"asked", "booting", "checking", "ready", "lost", "stopped", "destroying"})
GONE: frozenset[str] = frozenset({"destroyed", "failed"})


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One rented machine. `usd_per_hour` is all-in (disk included); times are epoch seconds by the engine's clock.

    `token` is the intent's name in the provider's label; `simulated` marks a machine of the lab. What it cost is kept
    by stretches of one rate: `cost_before_usd` up to `rate_since`, its present rate since then.
    """

    id: str
    provider: str
    state: MachineState
    state_since: float
    gpu: str
    gpu_count: int
    vram_mib: int
    kind: Kind
    usd_per_hour: float
    disk_gb: float
    storage_usd_per_hour: float = 0.0
    workspace: str | None = None
    role: Role = "primary"
    token: str | None = None
    provider_id: str | None = None
    provider_state: str | None = None
    host_id: str = ""
    machine_ref: str = ""
    region: str = ""
    country: str = ""
    reason: str | None = None
    asked_at: float | None = None
    rented_at: float | None = None
    rate_since: float | None = None
    cost_before_usd: float = 0.0
    ready_at: float | None = None
    destroy_asked_at: float | None = None
    destroy_accepted_at: float | None = None
    destroyed_at: float | None = None
    expires_at: float | None = None
    address: str | None = None
    port: int | None = None
    user: str = "root"
    workspace_dir: str | None = None
    driver_version: str | None = None
    host_key: str | None = None
    agent: Literal["connected", "lost"] | None = None
    agent_since: float | None = None
    simulated: bool = False

    @property
    def bills(self) -> bool:
        return self.rented_at is not None and self.state in BILLING

    @property
    def burn_usd_per_hour(self) -> float:
        """What it costs now: nothing before the provider accepted it, only the disk while stopped or outbid."""
        if not self.bills:
            return 0.0
        halted = self.state == "stopped" or (self.state == "lost" and self.provider_state == "paused")
        return self.storage_usd_per_hour if halted else self.usd_per_hour


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """A machine of the account that no intent of ours explains. Listed, never touched."""

    provider: str
    provider_id: str
    gpu: str
    gpu_count: int
    usd_per_hour: float
    label: str
    seen_at: float
    owner: str | None = None


def running_usd(machine: Machine, now: float) -> float:
    """What the present stretch has cost so far."""
    if machine.rate_since is None:
        return 0.0
    return max(0.0, now - machine.rate_since) / SECONDS_PER_HOUR * machine.burn_usd_per_hour


def cost_usd(machine: Machine, now: float) -> float:
    """Estimated cost since it was rented, by list price and time; exact invoices are the provider's."""
    return machine.cost_before_usd + running_usd(machine, now)
