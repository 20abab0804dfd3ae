"""What a contract costs while time passes.

Its one rule: storage bills as long as the contract exists, GPUs only while it runs.

Source of the rules: the provider's documentation (loading is not billed for GPUs, storage bills from creation,
stopped is not free); an account at or below zero has everything stopped. A month has 30 days (checked against the
documentation's sample row).
"""

from __future__ import annotations

from core.lab.state import Contract, WorldState

HOURS_PER_MONTH = 30 * 24
BILLED_PHASES = frozenset({"running", "rebooting"})


def storage_usd_per_hour(usd_per_gb_month: float, disk_gb: float) -> float:
    """What a disk costs per hour, running or not."""
    return usd_per_gb_month * disk_gb / HOURS_PER_MONTH


def usd_per_hour_now(contract: Contract) -> float:
    """What the contract costs per hour in its present phase."""
    if contract.destroyed_at is not None:
        return 0.0
    gpu = contract.usd_per_hour if contract.phase in BILLED_PHASES else 0.0
    return gpu + contract.storage_usd_per_hour


def bill(state: WorldState, until: float) -> bool:
    """Charge every contract up to `until` (lab seconds); True when the account has run dry and something still runs."""
    hours = (until - state.billed_until) / 3600
    if hours <= 0:
        return False
    state.billed_until = until
    for contract in state.contracts.values():
        due = hours * usd_per_hour_now(contract)
        contract.billed_usd += due
        state.account.credit_usd -= due
    return state.account.credit_usd <= 0 and any(c.phase in BILLED_PHASES for c in state.contracts.values())
