"""The hosts of the lab's world: who offers which machine, where, and which of them lie.

Its one rule: the same seed, the same hosts.

A host that lies advertises what its model should have and delivers less. Liars cost half as much again as honest
hosts of their class, so that the cheapest offer of a class is never one of them; a test picks one by its lie.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from core.lab.gpus import GpuModel, model

# lie -> what the machine then really is
LIES: dict[str, str] = {
    "gpu-count": "has one GPU fewer than it advertises",
    "vram": "has half the memory per GPU that it advertises",
    "gpu-model": "has another, slower GPU model than it advertises",
    "driver": "runs an older driver than it advertises",
    "cuda": "supports an older CUDA than it advertises",
    "disk-space": "gives a quarter of the disk that was rented",
    "disk-speed": "advertises a disk many times faster than it has",
    "network-speed": "moves a hundredth of the network traffic that it advertises",
    "no-boot": "stays in loading for ever",
    "oci-error": "fails to create the container and stays in created",
}

# market name of the place, as Vast writes it: free text ending in the country's code
_PLACES = (
    "Quebec, CA",
    "Texas, US",
    "Oregon, US",
    ", US",
    "Sweden, SE",
    "Norway, NO",
    "Germany, DE",
    "Poland, PL",
    "France, FR",
    "Tokyo, JP",
    "South Korea, KR",
    "United Kingdom, GB",
    "Iceland, IS",
    "Czechia, CZ",
    "Bulgaria, BG",
    "Taiwan, TW",
    "Australia, AU",
)
_CPUS = (
    ("AMD EPYC 7763 64-Core Processor", 128, 2.45),
    ("AMD EPYC 7543 32-Core Processor", 64, 2.8),
    ("Intel(R) Xeon(R) Gold 6330", 112, 2.0),
    ("AMD Ryzen Threadripper PRO 5975WX", 64, 3.6),
    ("AMD EPYC 9354 32-Core Processor", 64, 3.25),
)
_BOARDS = ("ROMED8-2T", "H12SSL-i", "MZ32-AR0-00", "X12DPG-OA6", "WRX80 Creator")
# driver branch and the CUDA version it brings; Blackwell needs 570 or later
_DRIVERS = (("550.144.03", 12.4), ("565.57.01", 12.7), ("570.86.15", 12.8), ("580.65.06", 13.0))
# more than any host of this lab can write, so that the lie is one wherever the lab runs
LIED_DISK_MB_S = 48_000.0
OLD_DRIVER, OLD_CUDA = "535.183.01", 12.2

# driver name of the model, then the number of GPUs of each host that has it
_HONEST: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("Tesla T4", (1, 2)),
    ("NVIDIA GeForce RTX 3090", (1, 1, 2, 4, 4, 8)),
    ("Tesla V100-SXM2-16GB", (4, 8)),
    ("NVIDIA RTX A6000", (1, 2, 4)),
    ("NVIDIA GeForce RTX 4090", (1, 1, 1, 2, 2, 4, 4, 8)),
    ("NVIDIA A100-SXM4-40GB", (4, 8)),
    ("NVIDIA GeForce RTX 5090", (1, 1, 2, 4, 8)),
    ("NVIDIA A100-PCIE-40GB", (1, 2, 4)),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", (1, 2)),
    ("NVIDIA L40S", (1, 4, 8)),
    ("NVIDIA A100-SXM4-80GB", (2, 4, 8, 8)),
    ("NVIDIA H100 NVL", (2, 4)),
    ("NVIDIA H100 80GB HBM3", (1, 4, 8, 8)),
    ("NVIDIA H200", (1, 8)),
    ("NVIDIA B200", (4, 8)),
)
_LIARS: tuple[tuple[str, str, int], ...] = (
    ("gpu-count", "NVIDIA GeForce RTX 3090", 2),
    ("vram", "NVIDIA GeForce RTX 4090", 1),
    ("gpu-model", "NVIDIA GeForce RTX 4090", 1),
    ("driver", "NVIDIA GeForce RTX 3090", 1),
    ("cuda", "NVIDIA GeForce RTX 3090", 1),
    ("disk-space", "NVIDIA GeForce RTX 3090", 1),
    ("disk-speed", "NVIDIA GeForce RTX 4090", 1),
    ("network-speed", "NVIDIA GeForce RTX 3090", 1),
    ("no-boot", "NVIDIA GeForce RTX 4090", 1),
    ("oci-error", "NVIDIA GeForce RTX 3090", 1),
)
# modest, because an honest lab machine must really deliver them, on a small and busy host, through SSH
_DISK_MB_S, _UP_MBIT, _DOWN_MBIT = (90.0, 320.0), (80.0, 320.0), (120.0, 400.0)
_LIAR_PRICE = 1.5
_FIRST_MACHINE_ID = 30100


@dataclass(frozen=True)
class CloudHost:
    """One physical machine as it advertises itself.

    Prices are USD per GPU-hour, network speeds Mbit/s, disk speed MB/s.
    """

    machine_id: int
    host_id: int
    gpu: GpuModel
    gpu_count: int
    place: str
    cpu_name: str
    cpu_cores: int
    cpu_ghz: float
    board: str
    ram_mib: int
    disk_gb: float
    disk_mb_s: float
    inet_up_mbit: float
    inet_down_mbit: float
    usd_per_gb_moved: float
    storage_usd_per_gb_month: float
    reliability: float
    verified: bool
    data_center: bool
    driver_version: str
    cuda: float
    static_ip: bool
    rental_limit_s: float
    usd_per_gpu_hour: float
    floor_usd_per_gpu_hour: float
    lie: str | None = None

    @property
    def country(self) -> str:
        """Two-letter country code."""
        return self.place[-2:]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The slices it rents out, in GPUs: all of it, and halves down to one."""
        sizes, size = [], self.gpu_count
        while size >= 1:
            sizes.append(size)
            size //= 2
        return tuple(sizes)


def _host(rng: random.Random, number: int, gpu: GpuModel, count: int, lie: str | None) -> CloudHost:
    cpu_name, cores, ghz = rng.choice(_CPUS)
    driver, cuda = rng.choice(_DRIVERS[2:] if gpu.arch == "Blackwell" else _DRIVERS)
    if lie in ("driver", "cuda"):
        driver, cuda = _DRIVERS[-1]
    data_center = gpu.data_center or rng.random() < 0.25
    spread = rng.uniform(0.92, 1.12) * (_LIAR_PRICE if lie else 1.0)
    return CloudHost(
        machine_id=_FIRST_MACHINE_ID + number,
        host_id=rng.randrange(60_000, 99_999),
        gpu=gpu,
        gpu_count=count,
        place=_PLACES[number % len(_PLACES)],
        cpu_name=cpu_name,
        cpu_cores=cores,
        cpu_ghz=ghz,
        board=rng.choice(_BOARDS),
        ram_mib=max(32, 2 ** rng.randrange(6, 9)) * 1007 * max(1, count // 2),
        disk_gb=round(rng.uniform(180, 900) * max(1, count // 2), 1),
        disk_mb_s=LIED_DISK_MB_S if lie == "disk-speed" else round(rng.uniform(*_DISK_MB_S), 1),
        inet_up_mbit=round(rng.uniform(*_UP_MBIT), 1),
        inet_down_mbit=round(rng.uniform(*_DOWN_MBIT), 1),
        usd_per_gb_moved=rng.choice((0.0, 0.002, 0.004, 0.01)),
        storage_usd_per_gb_month=rng.choice((0.1, 0.15, 0.2)),
        reliability=round(rng.uniform(0.962, 0.9995), 5),
        verified=lie is not None or rng.random() < 0.85,
        data_center=data_center,
        driver_version=driver,
        cuda=cuda,
        static_ip=data_center,
        rental_limit_s=float(rng.randrange(5, 90) * 86_400),
        usd_per_gpu_hour=round(gpu.on_demand * spread, 4),
        floor_usd_per_gpu_hour=round(gpu.floor_usd * spread * rng.uniform(0.85, 1.0), 4),
        lie=lie,
    )


def catalogue(seed: int, scale: int = 1) -> dict[int, CloudHost]:
    """Every host by machine id: honest ones first (`scale` times as many as there are by default), then one liar per
    lie.
    """
    rng = random.Random(seed)
    wanted: list[tuple[GpuModel, int, str | None]]
    wanted = [(model(name), count, None) for name, counts in _HONEST * scale for count in counts]
    wanted += [(model(name), count, lie) for lie, name, count in _LIARS]
    hosts = [_host(rng, number, gpu, count, lie) for number, (gpu, count, lie) in enumerate(wanted)]
    return {host.machine_id: host for host in hosts}
