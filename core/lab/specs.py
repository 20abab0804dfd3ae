"""What a machine is asked to be, and what it became.

One rule: plain values, the words of a provider's offer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GpuSpec:
    """One GPU as the machine's driver would report it."""

    name: str
    vram_mib: int
    power_limit_w: float
    data_center: bool


@dataclass(frozen=True, repr=False)
class MachineSpec:
    """What a machine shows to whoever logs in.

    `onstart` is shell text that init runs at every boot; what it prints is in /var/log/onstart.log. `repr` leaves the
    environment out: it holds the machine's API key.
    """

    id: str
    hostname: str
    gpus: tuple[GpuSpec, ...]
    driver_version: str
    cuda_version: str
    cores: int
    ram_mib: int
    disk_gb: float
    authorized_keys: tuple[str, ...]
    env: dict[str, str]
    onstart: str
    passthrough: bool = False

    def __repr__(self) -> str:
        return f"MachineSpec({self.id!r}, {len(self.gpus)} GPUs)"


@dataclass(frozen=True)
class Booted:
    """A machine that accepts logins.

    `pid` is its SSH server: SIGKILL, SIGSTOP and SIGCONT to it act on the whole machine.
    """

    pid: int
    init_pid: int
    isolation: str  # "ns" | "plain"
    direct: tuple[str, int]
    proxy: tuple[str, int]
    root: Path
    workspace_root: Path
    address: str  # a loopback address of its own, $LAB_ADDR inside: workloads bind their ports there
