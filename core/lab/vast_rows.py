"""How Vast shows a contract and its account.

Its one rule: the status fields say what the provider would say, and nothing that only the lab knows.

actual_status: null (provisioning), created, loading, running, rebooting, exited, offline. intended_status is what
the renter *or the market* wants; cur_state and next_state are the hardware's. An interrupted bid has cur_state ==
intended_status == next_state == "stopped".
"""

from __future__ import annotations

from typing import Any

from core.lab.contracts import HOLDS_GPUS
from core.lab.machines import Heartbeat
from core.lab.state import Contract
from core.lab.vast_search import host_fields, prices, slice_fields
from core.lab.world import World

Row = dict[str, Any]
_ACTUAL: dict[str, str | None] = {
    "created": None,
    "provisioning": None,
    "loading": "loading",
    "booting": "loading",
    "running": "running",
    "rebooting": "rebooting",
    "stopped": "exited",
    "outbid": "exited",
    "scheduling": "exited",
    "exited": "exited",
    "failed": "created",
    "offline": "offline",
}
# a silent host is shown as it was last heard
_PUBLISHED = frozenset({"running", "offline"})
_STORED_COLUMNS = frozenset(
    [
        "id",
        "label",
        "actual_status",
        "intended_status",
        "cur_state",
        "next_state",
        "gpu_name",
        "machine_id",
        "host_id",
        "image_uuid",
        "start_date",
        "verification",
    ]
)
# the provider does not say after how many missing heartbeats; these are the lab's
UNKNOWN_AFTER_S, OFFLINE_AFTER_S = 5.0, 30.0
# what a real pull prints, at which share of the boot time
_PULL = (
    (0.3, "Pulling from {image}"),
    (0.5, "3f4a9c1b7d20: Downloading"),
    (0.7, "3f4a9c1b7d20: Verifying Checksum"),
    (0.9, "3f4a9c1b7d20: Extracting"),
    (9.9, "3f4a9c1b7d20: Pull complete"),
)
# what docker writes for a port published on every address of the host
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - nothing binds it


def is_stored(column: str) -> bool:
    """Whether the list endpoint can filter and sort by a column; the others are computed and answer 400."""
    return column in _STORED_COLUMNS


def _actual_status(world: World, contract: Contract, silent_since: float | None) -> str | None:
    """A silent host is what it was, then unknown, then offline: the provider learns of it by missing heartbeats."""
    if silent_since is None:
        return _ACTUAL[contract.phase]
    silence_s = world.clock.now() - silent_since
    if silence_s < UNKNOWN_AFTER_S:
        return "running"
    return "unknown" if silence_s < OFFLINE_AFTER_S else "offline"


def _status_msg(world: World, contract: Contract) -> str | None:
    phase, image = contract.phase, contract.image
    if phase in _PUBLISHED:
        return f"success, running {image}/{'jupyter' if 'jupyter' in contract.runtype else 'ssh'}"
    if phase in ("loading", "booting"):
        total_s = max(0.001, contract.ready_at - contract.phase_since)
        share = (world.clock.now() - contract.phase_since) / total_s
        return next(text for limit, text in _PULL if share < limit or limit > 1).format(image=image)
    if phase == "failed":
        return (
            "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime"
            " create failed: runc create failed: unable to start container process: error during container init:"
            " unknown"
        )
    if phase == "rebooting":
        return "Rebooting"
    return None


def instance_row(world: World, contract: Contract, heartbeat: Heartbeat | None, silent_since: float | None) -> Row:
    """The row of one contract, as list and show give it.

    `silent_since`: when its host was last heard, if it is silent.
    """
    now = world.clock.now()
    host = world.hosts[contract.machine_id]
    running = contract.phase == "running"
    held = "running" if contract.phase in HOLDS_GPUS else "stopped"
    if contract.phase == "provisioning":
        held = "unloaded"
    outbid = contract.phase == "outbid"
    return {
        **host_fields(host, now),
        **slice_fields(host, contract.gpus),
        **_money(world, contract),
        **_connection(contract),
        **_load(world, contract, heartbeat if running else None),
        "id": contract.id,
        "label": contract.label,
        "actual_status": _actual_status(world, contract, silent_since),
        "intended_status": "stopped" if outbid else contract.intended,
        "cur_state": held,
        "next_state": "stopped" if outbid else contract.intended,
        "status_msg": _status_msg(world, contract),
        "start_date": contract.created_at,
        "end_date": contract.created_at + host.rental_limit_s,
        "duration": max(0.0, contract.created_at + host.rental_limit_s - now),
        "uptime_mins": (now - contract.phase_since) / 60 if running else None,
        "disk_space": contract.disk_gb,
        "image_uuid": contract.image,
        "image_runtype": contract.runtype,
        "image_args": [],
        "extra_env": [[key, value] for key, value in contract.env.items()],
        "onstart": contract.onstart,
        "template_id": None,
        "template_name": None,
        "template_hash_id": None,
        "jupyter_token": None,
        "client_run_time": max(0.0, now - contract.created_at),
        "host_run_time": host.rental_limit_s,
        "credit_balance": None,
        "is_vm_deverified": False,
        "external": False,
    }


def _money(world: World, contract: Contract) -> Row:
    return {
        "is_bid": contract.bid_usd_per_hour is not None,
        "min_bid": world.floor(contract),
        "dph_base": contract.usd_per_hour,
        "dph_total": round(contract.usd_per_hour + contract.storage_usd_per_hour, 6),
        "storage_total_cost": contract.storage_usd_per_hour,
        "search": prices(contract.usd_per_hour, contract.storage_usd_per_hour),
        "instance": prices(
            contract.usd_per_hour if contract.phase == "running" else 0.0, contract.storage_usd_per_hour
        ),
    }


def _connection(contract: Contract) -> Row:
    """Where SSH answers. The direct port is published only while the machine runs; with jupyter the proxy's SSH is at
    ssh_port + 1.
    """
    shift = 1 if "jupyter" in contract.runtype else 0
    direct = contract.direct_port if contract.phase in _PUBLISHED else 0
    shown = direct and "direc" in contract.runtype
    published = {"22/tcp": [{"HostIp": ALL_ADDRESSES, "HostPort": str(direct)}]} if shown else None
    return {
        "public_ipaddr": contract.public_host,
        "local_ipaddrs": contract.public_host,
        "ports": published,
        "ssh_host": contract.public_host,
        "ssh_idx": "1",
        "ssh_port": contract.proxy_port - shift if contract.proxy_port else None,
        "machine_dir_ssh_port": direct or None,
        "direct_port_start": direct or -1,
        "direct_port_end": direct or -1,
    }


def _load(world: World, contract: Contract, heartbeat: Heartbeat | None) -> Row:
    """What the host's heartbeat says; null until the first one."""
    host = world.hosts[contract.machine_id]
    memory_gb = host.ram_mib / 1024 * contract.gpus / host.gpu_count
    beat = heartbeat
    return {
        "gpu_util": beat.gpu_utilization_pct if beat else None,
        "gpu_temp": beat.gpu_temperature_c if beat else None,
        "vmem_usage": beat.gpu_memory_gb if beat else None,
        "cpu_util": None,
        "mem_usage": None,
        "mem_limit": round(memory_gb, 1) if beat else None,
        "disk_usage": None,
        "disk_util": -1,
    }


def user_row(world: World) -> Row:
    """The account, as users/current gives it."""
    keys = list(world.state.account.keys.values())
    text = ("address1", "address2", "city", "zip", "billaddress_country", "billaddress_city", "fullname")
    return {
        **dict.fromkeys(text, ""),
        "id": 7001,
        "username": "lab",
        "email": "lab@lab.invalid",
        "credit": round(world.state.account.credit_usd, 6),
        "balance": 0,
        "balance_threshold": 0,
        "balance_threshold_enabled": False,
        "autobill_threshold": 0,
        "autobill_amount": None,
        "billing_address": None,
        "has_billing": True,
        "has_payout": False,
        "api_key_id": 1,
        "sid": None,
        "ssh_key": keys[-1] if keys else "",
        "user": "lab",
    }
