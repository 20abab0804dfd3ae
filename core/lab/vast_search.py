"""Vast's search: offer rows from the world, filters with operators, order, limit.

Its one rule: what a row says is what the host *advertises*.

Operators: eq neq gt lt gte lte in notin (nin). Values may be numbers or strings ("1", "0.95"), because the official
clients send both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from core.lab.billing import storage_usd_per_hour
from core.lab.catalogue import CloudHost
from core.lab.state import MarketHost
from core.lab.world import World

Row = dict[str, Any]
DEFAULT_STORAGE_GB = 5.0  # the official command line's own default
DEFAULT_LIMIT = 64  # the provider does not document one; the official console shows 64 rows
_SCALARS = frozenset({"order", "limit", "type", "allocated_storage", "disable_bundling", "api_key", "resource_type"})
_TYPES = {"on-demand": False, "ondemand": False, "bid": True, "interruptible": True, "reserved": False}

_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, v: bool(a == v),
    "neq": lambda a, v: bool(a != v),
    "gt": lambda a, v: a is not None and bool(a > v),
    "gte": lambda a, v: a is not None and bool(a >= v),
    "lt": lambda a, v: a is not None and bool(a < v),
    "lte": lambda a, v: a is not None and bool(a <= v),
    "in": lambda a, v: a in v,
    "notin": lambda a, v: a not in v,
    "nin": lambda a, v: a not in v,
}


class BadQuery(ValueError):
    """A search that cannot be carried out; the message says what is wrong with it."""


def driver_number(version: str) -> int:
    """ "535.86.05" -> 535086005, as the official client writes driver versions into filters."""
    major, minor, patch = ([*version.split("."), "0", "0"])[:3]
    return int(major) * 1_000_000 + int(minor) * 1000 + int(patch)


def _coerce(value: Any, like: Any) -> Any:
    if isinstance(value, list):
        return [_coerce(each, like) for each in value]
    if isinstance(like, bool):
        return value.lower() == "true" if isinstance(value, str) else bool(value)
    if isinstance(like, int | float):
        return float(value)
    return value


def _field(row: Row, name: str) -> Any:
    """The value a filter compares: a geolocation by its country, a driver version as a number."""
    if name == "geolocation":
        return str(row["geolocation"])[-2:]
    if name == "driver_version":
        return driver_number(row["driver_version"])
    return row[name]


def matches(row: Row, filters: dict[str, Any]) -> bool:
    """Whether a row passes every filter. Raises BadQuery for an unknown operator or a value of the wrong kind."""
    for name, condition in filters.items():
        if name in _SCALARS or name not in row or condition is None:
            continue
        tests = condition.items() if isinstance(condition, dict) else [("eq", condition)]
        mine = _field(row, name)
        for op, value in tests:
            if op not in _OPS:
                raise BadQuery(f"Unknown operator {op!r} for {name}.")
            if value is None:
                continue
            try:
                if not _OPS[op](mine, _coerce(value, mine)):
                    return False
            except (TypeError, ValueError) as error:
                raise BadQuery(f"{value!r} is no value for {name}.") from error
    return True


def order_rows(rows: list[Row], order: Iterable[Any]) -> list[Row]:
    """Sort by several keys, the first one strongest; `[["dph_total","asc"], ...]`. Raises BadQuery."""
    try:
        keys = [(str(name), str(way).lower() == "desc") for name, way in order]
    except (TypeError, ValueError) as error:
        raise BadQuery("order is a list of [field, asc|desc].") from error
    for name, down in reversed(keys):
        rows.sort(key=lambda row: (row.get(name) is not None, row.get(name) or 0), reverse=down)
    return rows


def search(world: World, body: dict[str, Any], *, hidden: Callable[[str], bool]) -> list[Row]:
    """The rows a search body asks for, without those of countries that are `hidden`. Raises BadQuery."""
    kind = str(body.get("type") or "on-demand")
    if kind not in _TYPES:
        raise BadQuery(f"Unknown type {kind!r}.")
    try:
        storage_gb = float(body.get("allocated_storage") or DEFAULT_STORAGE_GB)
        limit = int(body.get("limit") or DEFAULT_LIMIT)
    except (TypeError, ValueError) as error:
        raise BadQuery("limit and allocated_storage are numbers.") from error
    rows = [row for row in offer_rows(world, bid=_TYPES[kind], storage_gb=storage_gb) if matches(row, body)]
    rows = [row for row in rows if not hidden(row["country_code"])]
    return order_rows(rows, body.get("order") or [["score", "desc"]])[:limit]


def offer_rows(world: World, *, bid: bool, storage_gb: float) -> list[Row]:
    """Every slice that can be rented now."""
    now = world.clock.now()
    rows = []
    for machine_id, market in world.state.market.items():
        host = world.hosts[machine_id]
        fixed = host_fields(host, now)
        rows += [
            {**fixed, **_slice_fields(host, market, gpus, offer_id, bid=bid, storage_gb=storage_gb)}
            for gpus, offer_id in market.offers.items()
        ]
    return rows


def _slice_fields(
    host: CloudHost, market: MarketHost, gpus: int, offer_id: int, *, bid: bool, storage_gb: float
) -> Row:
    min_bid = round(market.floor_usd_per_gpu_hour * gpus, 4)
    gpu_usd = min_bid if bid else round(market.usd_per_gpu_hour * gpus, 4)
    disk_usd = storage_usd_per_hour(host.storage_usd_per_gb_month, storage_gb)
    total = round(gpu_usd + disk_usd, 6)
    dlperf = round(host.gpu.dlperf * gpus * 0.98, 2)
    flops = round(host.gpu.single_tflops * gpus, 2)
    return {
        **slice_fields(host, gpus),
        "id": offer_id,
        "ask_contract_id": offer_id,
        "bundle_id": host.machine_id * 10 + gpus,
        "dph_base": gpu_usd,
        "dph_total": total,
        "dph_total_adj": total,
        "min_bid": min_bid,
        "is_bid": bid,
        "discount_rate": 0.0,
        "discounted_dph_total": total,
        "credit_discount_max": 0.1,
        "rentable": True,
        "rented": False,
        "dlperf": dlperf,
        "dlperf_per_dphtotal": round(dlperf / total, 2),
        "flops_per_dphtotal": round(flops / total, 2),
        "score": round(dlperf / total * host.reliability, 2),
        "search": prices(gpu_usd, disk_usd),
        "instance": prices(0.0, disk_usd),
    }


def prices(gpu_usd: float, disk_usd: float) -> Row:
    """The nested price block of a row, USD per hour."""
    return {
        "gpuCostPerHour": round(gpu_usd, 6),
        "diskHour": round(disk_usd, 6),
        "totalHour": round(gpu_usd + disk_usd, 6),
        "discountTotalHour": 0,
        "discountedTotalPerHour": round(gpu_usd + disk_usd, 6),
    }


def slice_fields(host: CloudHost, gpus: int) -> Row:
    """What a slice of `gpus` GPUs has of its host."""
    share = gpus / host.gpu_count
    return {
        "num_gpus": gpus,
        "gpu_frac": round(share, 4),
        "gpu_total_ram": host.gpu.vram_mib * gpus,
        "gpu_totalram": host.gpu.vram_mib * gpus,
        "cpu_cores_effective": round(host.cpu_cores * share, 2),
        "disk_space": round(host.disk_gb * share, 2),
        "total_flops": round(host.gpu.single_tflops * gpus, 2),
        "gpu_lanes": 16,
        "direct_port_count": max(2, int(250 * share)),
    }


def host_fields(host: CloudHost, now: float) -> Row:
    """What every row of a host says, rented or not."""
    return {
        **_gpu_fields(host),
        **_machine_fields(host),
        "machine_id": host.machine_id,
        "host_id": host.host_id,
        "hosting_type": 1 if host.data_center else 0,
        "resource_type": "gpu",
        "storage_cost": host.storage_usd_per_gb_month,
        "reliability": host.reliability,
        "reliability2": host.reliability,
        "reliability_mult": 1.0,
        "duration": host.rental_limit_s,
        "start_date": now,
        "end_date": now + host.rental_limit_s,
        "static_ip": host.static_ip,
        "public_ipaddr": "127.0.0.1",
        "cuda_max_good": host.cuda,
        "driver_version": host.driver_version,
        "driver_vers": driver_number(host.driver_version),
        "pcie_bw": 24.1,
        "pci_gen": 4.0,
        "os_version": "22.04",
        "ubuntu_version": "22.04",
        "vms_enabled": False,
        "is_vm_deverified": False,
        "datacenter": host.data_center,
        "verification": "verified" if host.verified else "unverified",
        "verified": host.verified,
        "external": False,
        "cluster_id": None,
        "geolocation": host.place,
        "geolocode": sum(ord(letter) << (8 * place) for place, letter in enumerate(host.country)),
        "country_code": host.country,
        "logo": "",
        "webpage": None,
        "rn": 1,
    }


def _gpu_fields(host: CloudHost) -> Row:
    return {
        "gpu_name": host.gpu.name,
        "gpu_arch": "nvidia",
        "gpu_ram": host.gpu.vram_mib,
        "gpu_mem_bw": host.gpu.bandwidth_gb_s,
        "gpu_max_power": host.gpu.power_limit_w,
        "gpu_max_temp": 90.0,
        "gpu_display_active": False,
        "compute_cap": host.gpu.compute_cap,
        "bw_nvlink": 600.0 if "SXM" in host.gpu.name and host.gpu_count > 1 else 0.0,
    }


def _machine_fields(host: CloudHost) -> Row:
    return {
        "cpu_name": host.cpu_name,
        "cpu_arch": "amd64",
        "cpu_cores": host.cpu_cores,
        "cpu_ghz": host.cpu_ghz,
        "cpu_ram": host.ram_mib,
        "has_avx": 1,
        "mobo_name": host.board,
        "disk_name": "nvme",
        "disk_bw": host.disk_mb_s,
        "inet_up": host.inet_up_mbit,
        "inet_down": host.inet_down_mbit,
        "inet_up_cost": host.usd_per_gb_moved,
        "inet_down_cost": host.usd_per_gb_moved,
        "internet_up_cost_per_tb": host.usd_per_gb_moved * 1000,
        "internet_down_cost_per_tb": host.usd_per_gb_moved * 1000,
    }
