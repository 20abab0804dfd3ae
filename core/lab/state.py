"""What the world remembers, as plain data.

Its one rule: everything that must survive kill -9 of the front is in `WorldState`, and nothing else is.

Times are lab epoch seconds, money is USD.
"""

from __future__ import annotations

import msgspec


class Contract(msgspec.Struct, kw_only=True):
    """One rented machine, from the create call until it is compacted into `history`."""

    id: int
    provider: str
    machine_id: int
    gpus: int
    phase: str
    intended: str
    bid_usd_per_hour: float | None
    usd_per_hour: float
    storage_usd_per_hour: float
    disk_gb: float
    created_at: float
    phase_since: float
    answered_at: float | None = None
    destroyed_at: float | None = None
    ready_at: float = 0.0
    notice_until: float | None = None
    boots: int = 0
    billed_usd: float = 0.0
    label: str | None = None
    image: str = ""
    runtype: str = "ssh_proxy"
    env: dict[str, str] = {}
    onstart: str = ""
    lie: str | None = None
    api_key: str = ""
    keys: dict[int, str] = {}
    public_host: str = "127.0.0.1"
    direct_port: int = 0
    proxy_port: int = 0
    address: str = ""
    isolation: str = ""
    boot_error: str = ""
    pid: int = 0
    init_pid: int = 0
    root: str = ""
    workspace_root: str = ""


class Record(msgspec.Struct, kw_only=True):
    """What remains of a contract that is gone: enough to judge a leak or a bill from."""

    id: int
    machine_id: int
    label: str | None
    created_at: float
    answered_at: float | None
    destroyed_at: float | None
    billed_usd: float


class MarketHost(msgspec.Struct, kw_only=True):
    """What moves about a host: prices per GPU-hour, GPUs held by other renters, and the offer id of each slice it can
    rent out now.
    """

    usd_per_gpu_hour: float
    floor_usd_per_gpu_hour: float
    others: int = 0
    offers: dict[int, int] = {}


class Account(msgspec.Struct, kw_only=True):
    """The one customer of the lab."""

    credit_usd: float
    keys: dict[int, str] = {}


class Event(msgspec.Struct, order=True):
    """Something due: ordered by time, then by number."""

    due: float
    seq: int
    kind: str
    contract_id: int = 0
    boot: int = 0
    text: str = ""


class FaultRecord(msgspec.Struct, kw_only=True):
    """A fault that is on. `target` is a contract id, a zone, a provider; `ends_at` lab seconds."""

    id: int
    name: str
    target: str
    started_at: float
    ends_at: float | None
    options: dict[str, float | str] = {}


class Effect(msgspec.Struct, frozen=True):
    """An act on real machines that the world asks its front to carry out; at least once, so each is harmless when
    repeated.
    """

    kind: str
    contract_id: int
    boot: int = 0


class WorldState(msgspec.Struct, kw_only=True):
    """All of it. `version` is the shape of this file."""

    version: int = 1
    paused: bool = False
    seed: int
    scale: int = 1
    seq: int
    lab_time: float
    saved_at: float
    billed_until: float
    account: Account
    market: dict[int, MarketHost] = {}
    contracts: dict[int, Contract] = {}
    history: list[Record] = []
    queue: list[Event] = []
    faults: list[FaultRecord] = []
    pending: list[Effect] = []


def skip_pause(state: WorldState, now: float) -> None:
    """A lab ended in good order stood still: what was due comes later by as much, and nobody pays for the time."""
    away_s = now - state.lab_time
    state.paused = False
    state.billed_until += away_s
    for event in state.queue:
        event.due += away_s
    for contract in state.contracts.values():
        contract.ready_at += away_s
    for fault in state.faults:
        if fault.ends_at is not None:
            fault.ends_at += away_s
