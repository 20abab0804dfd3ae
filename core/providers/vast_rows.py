"""Vast.ai's rows: what each means in our words. Pure. One rule: an unreadable row is counted, never guessed.

Units there: `dph_*` and `min_bid` USD per hour for the whole slice, `gpu_ram` MiB per GPU, `cpu_ram` MiB of the whole
host, `disk_bw` MB/s, `inet_*` Mbit/s, `storage_cost` USD per GB and month of 30 days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from core.domain.market import Offer
from core.domain.units import HOURS_PER_MONTH, clean
from core.providers.base import Address, ProviderMachine, ProviderMachineState

VAST_HOURS_PER_MONTH = (
    720.0  # their hour of storage is storage_cost * GB / 30 / 24 (checked against the documented sample)
)
BID_SUFFIX = "-bid"  # the same ask is offered on demand and for bids; our offer ids tell them apart
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_COUNTRY = re.compile(r"(?:^|[\s,])([A-Z]{2})$")
_DEAD_MESSAGE = "OCI runtime create failed"

T = TypeVar("T")


class OfferRow(msgspec.Struct, frozen=True):
    """One row of a search. What has no default must be there."""

    id: int
    machine_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram: float
    host_id: int | None = None
    dph_base: float | None = None
    dph_total: float | None = None
    min_bid: float | None = None
    storage_cost: float | None = None
    reliability: float | None = None
    reliability2: float | None = None
    verification: str | None = None
    geolocation: str | None = None
    cpu_cores: float | None = None
    cpu_cores_effective: float | None = None
    cpu_ram: float | None = None
    disk_space: float | None = None
    disk_bw: float | None = None
    inet_down: float | None = None
    inet_up: float | None = None
    inet_down_cost: float | None = None
    inet_up_cost: float | None = None
    driver_version: str | None = None
    cuda_max_good: float | None = None
    direct_port_count: int | None = None
    duration: float | None = None


class PortRow(msgspec.Struct, frozen=True):
    HostPort: str | int


class InstanceRow(msgspec.Struct, frozen=True):
    """One row of the account's list."""

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    label: str | None = None
    actual_status: str | None = None
    intended_status: str | None = None
    cur_state: str | None = None
    next_state: str | None = None
    status_msg: str | None = None
    is_bid: bool | None = None
    gpu_name: str | None = None
    num_gpus: int | None = None
    gpu_ram: float | None = None
    dph_total: float | None = None
    storage_total_cost: float | None = None
    geolocation: str | None = None
    public_ipaddr: str | None = None
    ports: dict[str, list[PortRow] | None] | None = None
    ssh_host: str | None = None
    ssh_port: int | str | None = None
    image_runtype: str | None = None
    driver_version: str | None = None
    cuda_max_good: float | None = None
    disk_space: float | None = None
    disk_bw: float | None = None
    inet_down: float | None = None


def read_rows(rows: Iterable[Any], kind: type[T], meaning: Callable[[T], Any]) -> tuple[list[Any], int]:
    """(the meaning of every readable row, how many were not)."""
    read: list[Any] = []
    skipped = 0
    for row in rows:
        try:
            read.append(meaning(msgspec.convert(row, kind)))
        except (msgspec.ValidationError, ValueError, OverflowError):
            skipped += 1
    return read, skipped


def place(geolocation: str | None) -> tuple[str, str]:
    """(region, ISO country) of Vast's free text: "Texas, US", ", US", "Tokyo, JP"."""
    text = clean(geolocation or "", 80)
    found = _COUNTRY.search(text)
    if not found:
        return text, ""
    return text[: found.start()].strip(" ,"), found.group(1)


def _positive(value: float | None, what: str) -> float:
    if value is None or not 0 < value < 1e6:
        raise ValueError(f"{what} is {value}")
    return value


def offer(row: OfferRow, *, bid: bool, observed_at: float, source: str) -> Offer:
    """Raises ValueError when the row has no usable price or size."""
    region, country = place(row.geolocation)
    usd = _positive(row.min_bid if bid else row.dph_base, "the price")
    ram = None
    if row.cpu_ram is not None:
        share = row.cpu_cores_effective / row.cpu_cores if row.cpu_cores and row.cpu_cores_effective else 1.0
        ram = int(row.cpu_ram * min(1.0, share))
    return Offer(
        id=f"{row.id}{BID_SUFFIX}" if bid else str(row.id),
        provider="vast",
        gpu=clean(row.gpu_name, 60),
        gpu_count=int(_positive(row.num_gpus, "num_gpus")),
        vram_mib=int(_positive(row.gpu_ram, "gpu_ram")),
        kind="spot" if bid else "on-demand",
        usd_per_hour=usd,
        storage_usd_per_gb_month=max(0.0, row.storage_cost or 0.0) * HOURS_PER_MONTH / VAST_HOURS_PER_MONTH,
        observed_at=observed_at,
        host_id="" if row.host_id is None else str(row.host_id),
        machine_ref=str(row.machine_id),
        region=region,
        country=country,
        reliability=row.reliability2 if row.reliability2 is not None else row.reliability,
        verified=row.verification == "verified",
        min_bid_usd_per_hour=row.min_bid,
        cpu_cores=row.cpu_cores_effective if row.cpu_cores_effective is not None else row.cpu_cores,
        ram_mib=ram,
        disk_gb=row.disk_space,
        disk_mbps=row.disk_bw,
        inet_down_mbps=row.inet_down,
        inet_up_mbps=row.inet_up,
        inet_down_usd_per_gb=row.inet_down_cost,
        inet_up_usd_per_gb=row.inet_up_cost,
        driver_version=None if row.driver_version is None else clean(row.driver_version, 40),
        cuda_max=row.cuda_max_good,
        direct_ports=row.direct_port_count,
        max_duration_s=row.duration,
        source=source,
    )


def state_of(row: InstanceRow) -> ProviderMachineState:
    """What Vast's four status fields mean together.

    An interrupted bid has cur_state, intended_status and next_state all `stopped`, and so has a bid that its renter
    stopped: both are `paused`, and which it was only our own intent knows. `exited` and `offline` never become running
    by themselves, unless it is only the GPU that is missing (cur_state `stopped` while running is intended: Vast calls
    that scheduling).
    """
    actual, bid = row.actual_status, bool(row.is_bid)
    resting: Literal["paused", "stopped"] = "paused" if bid else "stopped"
    if actual in (None, "created", "loading") and _DEAD_MESSAGE in (row.status_msg or ""):
        return "dead"
    if actual == "running":
        return "running"
    if actual in ("unknown", "offline"):
        return "unknown" if actual == "unknown" else "dead"
    if row.intended_status in ("stopped", "frozen"):
        return resting
    if actual in (None, "created", "loading", "rebooting", "restarting"):
        return "starting"
    if actual in ("stopped", "frozen", "exited") and row.cur_state in ("stopped", "unloaded"):
        return "paused" if bid else "starting"
    if actual in ("stopped", "frozen"):
        return "starting"
    return "dead" if actual == "exited" else "unknown"


def _address(host: str | None, port: int | str | None, shift: int, via: Literal["direct", "proxy"]) -> list[Address]:
    name = (host or "").strip()
    text = "" if port is None else str(port).strip()
    number = int(text) + shift if text.isdigit() and len(text) < 6 else 0
    if not _HOST.fullmatch(name) or not 0 < number < 65536:
        return []
    return [Address(host=name, port=number, via=via)]


def addresses(row: InstanceRow) -> tuple[Address, ...]:
    """Direct first, then Vast's proxy, whose SSH is one port further where the image runs jupyter."""
    published = (row.ports or {}).get("22/tcp") or []
    direct = _address(row.public_ipaddr, published[0].HostPort, 0, "direct") if published else []
    shift = 1 if "jupyter" in (row.image_runtype or "") else 0
    return (*direct, *_address(row.ssh_host, row.ssh_port, shift, "proxy"))


def machine(row: InstanceRow) -> ProviderMachine:
    """`usd_per_hour` is Vast's dph_total: GPUs and disk together."""
    region, country = place(row.geolocation)
    state = state_of(row)
    said = clean(row.status_msg or "", 300)
    return ProviderMachine(
        provider_id=str(row.id),
        label=clean(row.label or "", 256),
        state=state,
        status_text=said or clean(row.actual_status or "provisioning", 40),
        gpu=clean(row.gpu_name or "", 60),
        gpu_count=max(0, row.num_gpus or 0),
        vram_mib=int(row.gpu_ram or 0),
        kind="spot" if row.is_bid else "on-demand",
        usd_per_hour=max(0.0, row.dph_total or 0.0),
        storage_usd_per_hour=max(0.0, row.storage_total_cost or 0.0),
        host_id="" if row.host_id is None else str(row.host_id),
        machine_ref="" if row.machine_id is None else str(row.machine_id),
        region=region,
        country=country,
        addresses=addresses(row) if state == "running" else (),
        driver_version=None if row.driver_version is None else clean(row.driver_version, 40),
        cuda_max=row.cuda_max_good,
        disk_gb=row.disk_space,
        inet_down_mbps=row.inet_down,
        disk_mbps=row.disk_bw,
    )
