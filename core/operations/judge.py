"""Judging: what the machine showed against what its offer said. The measuring is here, the comparison is pure.

One rule: too little is a lie, more is not; a value that nobody could measure is not held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from core.domain.gpus import canonical
from core.domain.units import MIB
from core.remote.agent_client import AgentChannel
from core.remote.agent_frames import AgentHello
from core.remote.speed import measure_upload
from core.remote.ssh import Connection

UPLOAD_BYTES = 4 * 1024 * 1024
SHORT_WRITE_SHARE = 0.1  # 64 MiB written and synced reach a tenth or more of what a long sequential benchmark reports
STREAM_MBIT_CAP = 320.0  # beyond it the ends of one SSH stream are what is measured, not the machine's network


class Tolerances(Protocol):
    disk_tolerance: float
    vram_tolerance: float
    net_tolerance: float
    judge_network: bool


@dataclass
class Uplink:
    """How fast we ourselves can send, Mbit/s: the best that any machine ever took from us; None until one did.

    In the lab, on this machine's own loopback, it has no bound.
    """

    mbps: float | None = None

    def saw(self, mbps: float | None) -> None:
        if mbps is not None and (self.mbps is None or mbps > self.mbps):
            self.mbps = mbps


class Advertised(msgspec.Struct, frozen=True, kw_only=True):
    gpu: str
    gpu_count: int
    vram_mib: int
    driver_version: str | None
    cuda_max: float | None
    disk_gb: float | None
    disk_mbps: float | None
    inet_down_mbps: float | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Disk sizes in GB, speeds in MB/s (disk) and Mbit/s (network)."""

    disk_gb: float | None = None
    disk_write_mbps: float | None = None
    upload_mbps: float | None = None


async def verdict(
    channel: AgentChannel, connection: Connection, advertised: Advertised, rules: Tolerances, uplink: Uplink
) -> tuple[str | None, str]:
    """(reason to give it back or None, what was found). Raises MachineError leaves when it is lost meanwhile."""
    hello = channel.hello
    reason = gpu_lie(hello, advertised, rules)
    if reason is not None:
        return reason, ""
    facts = await channel.judge()
    rate = await measure_upload(connection, UPLOAD_BYTES) if rules.judge_network else None
    measured = Measured(
        disk_gb=None if facts.disk_total_mib is None else facts.disk_total_mib * MIB / 1e9,
        disk_write_mbps=facts.disk_write_bps / 1e6,
        upload_mbps=None if rate is None else rate * 8 / 1e6,
    )
    name = hello.gpus[0].name if hello.gpus else "no GPU"
    found = f"{len(hello.gpus)}x {name}, driver {hello.driver or '–'}, CUDA {hello.cuda or '–'}"
    reason = slow_lie(measured, advertised, rules, uplink.mbps)
    uplink.saw(measured.upload_mbps)
    return reason, found


def gpu_lie(hello: AgentHello, advertised: Advertised, rules: Tolerances) -> str | None:
    """Number, model, memory, driver and CUDA as advertised; the first that is not, in words."""
    if hello.problem:
        return f"its GPUs do not work: {hello.problem}"
    if len(hello.gpus) < advertised.gpu_count:
        return f"it has {len(hello.gpus)} GPUs, {advertised.gpu_count} were advertised"
    vram = min((g.memory_total_mib for g in hello.gpus if g.memory_total_mib is not None), default=None)
    name = hello.gpus[0].name if hello.gpus else ""
    if vram is not None and vram < advertised.vram_mib * (1 - rules.vram_tolerance):
        return f"its GPUs have {vram:.0f} MiB, {advertised.vram_mib} were advertised"
    have, said = canonical(name, int(vram or 0)), canonical(advertised.gpu, advertised.vram_mib)
    if name and have.casefold().split() != said.casefold().split() and not _same_model(have, said):
        return f"its GPU is a {name}, a {advertised.gpu} was advertised"
    if advertised.driver_version and hello.driver and _older(hello.driver, advertised.driver_version):
        return f"its driver is {hello.driver}, {advertised.driver_version} was advertised"
    if advertised.cuda_max and hello.cuda and _number(hello.cuda) < advertised.cuda_max - 0.05:
        return f"its driver offers CUDA {hello.cuda}, {advertised.cuda_max} was advertised"
    return None


def slow_lie(measured: Measured, advertised: Advertised, rules: Tolerances, uplink_mbps: float | None) -> str | None:
    """Disk and network as advertised within tolerance. A slow stream condemns only where ours is known to be faster."""
    if (
        advertised.disk_gb is not None
        and measured.disk_gb is not None
        and measured.disk_gb < advertised.disk_gb * (1 - rules.disk_tolerance)
    ):
        return f"its disk has {measured.disk_gb:.1f} GB, {advertised.disk_gb:.0f} were rented"
    if advertised.disk_mbps is not None and measured.disk_write_mbps is not None:
        expected = advertised.disk_mbps * SHORT_WRITE_SHARE * (1 - rules.disk_tolerance)
        if measured.disk_write_mbps < expected:
            return f"its disk writes {measured.disk_write_mbps:.0f} MB/s, {advertised.disk_mbps:.0f} were advertised"
    if advertised.inet_down_mbps is not None and measured.upload_mbps is not None and uplink_mbps is not None:
        possible = min(advertised.inet_down_mbps, STREAM_MBIT_CAP, uplink_mbps)
        expected = possible * (1 - rules.net_tolerance)
        if measured.upload_mbps < expected:
            return (
                f"its network takes {measured.upload_mbps:.0f} Mbit/s, {advertised.inet_down_mbps:.0f} were advertised"
            )
    return None


def _same_model(have: str, said: str) -> bool:
    """Marketing prefixes and suffixes aside: "NVIDIA GeForce RTX 4090" is "RTX 4090"."""
    noise = {"nvidia", "geforce", "tesla", "graphics", "device", "generation", "laptop"}
    clean = [{w for w in name.casefold().replace("-", " ").split() if w not in noise} for name in (have, said)]
    return clean[0] == clean[1] or (bool(clean[1]) and clean[1] <= clean[0])


def _older(have: str, said: str) -> bool:
    """Whether the major branch of a driver version is lower."""
    return _number(have.split(".")[0]) < _number(said.split(".")[0])


def _number(text: str) -> float:
    try:
        return float(".".join(text.split(".")[:2]))
    except ValueError:
        return 0.0
