"""The market: offers, what is wanted of one, which one to take. Pure; prices are USD and always carry their age."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.domain.gpus import canonical, matches, tflops
from core.domain.units import HOURS_PER_MONTH, Kind


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One rentable slice of one host, as its provider described it at `observed_at` (the engine's clock).

    `usd_per_hour` is for all its GPUs without the disk; a bid offer's is the floor to win now. `None`: not said.
    """

    id: str
    provider: str
    gpu: str
    gpu_count: int
    vram_mib: int
    kind: Kind
    usd_per_hour: float
    storage_usd_per_gb_month: float
    observed_at: float
    host_id: str
    machine_ref: str
    region: str = ""
    country: str = ""
    reliability: float | None = None
    verified: bool = False
    min_bid_usd_per_hour: float | None = None
    cpu_cores: float | None = None
    ram_mib: int | None = None
    disk_gb: float | None = None
    disk_mbps: float | None = None
    inet_down_mbps: float | None = None
    inet_up_mbps: float | None = None
    inet_down_usd_per_gb: float | None = None
    inet_up_usd_per_gb: float | None = None
    driver_version: str | None = None
    cuda_max: float | None = None
    direct_ports: int | None = None
    max_duration_s: float | None = None
    source: str = ""

    @property
    def usd_per_gpu_hour(self) -> float:
        return self.usd_per_hour / max(1, self.gpu_count)

    def all_in_usd_per_hour(self, disk_gb: float) -> float:
        """GPU and disk together. Traffic is not in it: it is billed by the byte."""
        return self.usd_per_hour + disk_gb * self.storage_usd_per_gb_month / HOURS_PER_MONTH

    @property
    def value(self) -> float | None:
        """Dense half-precision TFLOPS per USD per hour; None for a GPU whose figure we do not know."""
        rate = tflops(self.gpu, self.vram_mib)
        return None if rate is None or self.usd_per_hour <= 0 else rate * self.gpu_count / self.usd_per_hour


class OfferQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted. `None`: any."""

    gpu: str | None = None
    count: int | None = None
    kind: Kind | None = None
    provider: str | None = None
    region: str | None = None
    max_usd_per_hour: float | None = None
    min_vram_gb: float | None = None
    min_reliability: float | None = None
    verified_only: bool = False


def fits(offer: Offer, query: OfferQuery, disk_gb: float = 0.0) -> bool:
    """Whether the offer is one of those asked for. The price limit holds for the whole offer with its disk."""
    return (
        (query.gpu is None or matches(offer.gpu, query.gpu))
        and (query.count is None or offer.gpu_count == query.count)
        and (query.kind is None or offer.kind == query.kind)
        and (query.provider is None or offer.provider == query.provider)
        and (query.region is None or lies_in(offer, query.region))
        and (query.max_usd_per_hour is None or offer.all_in_usd_per_hour(disk_gb) <= query.max_usd_per_hour)
        and (query.min_vram_gb is None or offer.vram_mib >= query.min_vram_gb * 1000)
        and (query.min_reliability is None or (offer.reliability or 0.0) >= query.min_reliability)
        and (not query.verified_only or offer.verified)
    )


def lies_in(offer: Offer, region: str) -> bool:
    """Two letters are a country's code and nothing else: `DE` is not Sweden. More are a part of the region's name."""
    wanted = region.strip().casefold()
    if len(wanted) == 2 and offer.country:
        return wanted == offer.country.casefold()
    return wanted in f"{offer.region} {offer.country}".casefold()


def cheapest_first(offers: Iterable[Offer], disk_gb: float) -> list[Offer]:
    """By all-in price; among equals the more reliable host first, then by id so that the order is stable."""
    return sorted(offers, key=lambda o: (o.all_in_usd_per_hour(disk_gb), -(o.reliability or 0.0), o.id))


def class_of(offer: Offer) -> str:
    """The price class whose history is kept: provider, canonical GPU and kind."""
    return f"{offer.provider}/{canonical(offer.gpu, offer.vram_mib)}/{offer.kind}"


class PricePoint(msgspec.Struct, frozen=True, array_like=True):
    """A 30-minute bucket of one class, USD per GPU-hour: never a bare minimum (one odd host moves it)."""

    at: float
    p25: float
    median: float
    count: int


class PriceHistory(msgspec.Struct, frozen=True, kw_only=True):
    price_class: str
    raw: list[tuple[float, float, str]]  # (observed_at, USD per GPU-hour, offer id), the last 48 h
    buckets: list[PricePoint]


class HostHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What we ourselves saw of a host: rented, became ready, refused and why."""

    provider: str
    host_id: str
    rented: int = 0
    ready: int = 0
    refused: int = 0
    boot_s_total: float = 0.0
    last_reason: str | None = None
    last_at: float | None = None
    blocked: bool = False
    blocked_reason: str | None = None

    @property
    def never_worked(self) -> bool:
        """Given back at least once and never ready: not taken again unless it is named."""
        return self.refused > 0 and self.ready == 0

    @property
    def boot_s(self) -> float | None:
        return None if self.ready == 0 else self.boot_s_total / self.ready


class MarketStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's market as last polled; a reading, latest wins. `version` changes when the offers did."""

    provider: str
    version: int
    at: float | None
    count: int
    ok: bool
    error: str | None = None
    rows_skipped: int = 0
