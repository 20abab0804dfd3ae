"""What a contract is to the world: its phases and what may happen in each.

Its one rule: what the table does not name does not happen; a late event for another phase is ignored by it, not by ifs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.lab.state import Contract, Record

# phase -> event -> next phase. What is not written here does not happen: a late event for another phase is ignored
# by this table.
NEXT: Mapping[str, Mapping[str, str]] = {
    "created": {"start": "provisioning", "wait": "scheduling", "refuse": "stopped"},
    "provisioning": {"pull": "loading", "stop": "stopped", "outbid": "outbid", "lose": "offline"},
    "loading": {"image": "booting", "fail": "failed", "stop": "stopped", "outbid": "outbid", "lose": "offline"},
    "booting": {"up": "running", "fail": "failed", "stop": "stopped", "outbid": "outbid", "lose": "offline"},
    "running": {"stop": "stopped", "outbid": "outbid", "die": "exited", "lose": "offline", "reboot": "rebooting"},
    "rebooting": {"up": "running", "fail": "failed", "stop": "stopped", "outbid": "outbid", "lose": "offline"},
    "outbid": {"start": "loading", "stop": "stopped"},
    "stopped": {"start": "loading", "wait": "scheduling"},
    "scheduling": {"start": "loading", "stop": "stopped"},
    "exited": {"stop": "stopped", "reboot": "rebooting", "lose": "offline"},
    "offline": {"stop": "stopped", "reboot": "rebooting"},
    "failed": {"stop": "stopped"},
}
HOLDS_GPUS = frozenset({"provisioning", "loading", "booting", "running", "rebooting", "exited", "offline", "failed"})


class Refused(Exception):
    """A verb the world does not carry out. `code` is a word: no_such_offer, no_such_contract, no_credit."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Order:
    """What a renter asks for. `bid_usd_per_hour` is for the whole machine; None rents on demand."""

    bid_usd_per_hour: float | None
    disk_gb: float
    label: str | None
    image: str
    runtype: str
    env: dict[str, str]
    onstart: str
    lie: str | None = None


def record(contract: Contract) -> Record:
    """What to remember of a contract."""
    return Record(
        id=contract.id,
        machine_id=contract.machine_id,
        label=contract.label,
        created_at=contract.created_at,
        answered_at=contract.answered_at,
        destroyed_at=contract.destroyed_at,
        billed_usd=round(contract.billed_usd, 6),
    )
