"""What a machine is asked to be, and what it became.

One rule: plain values, the words of a provider's offer.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

PROTOCOL = 1  # between front and keeper; raised when one of another version could not talk to the other


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


def own_address(machine_id: str) -> str:
    """A loopback address for its own services: any user may bind 127.0.0.0/8 on Linux, and ports are shared."""
    if sys.platform != "linux":
        return "127.0.0.1"
    number = zlib.crc32(machine_id.encode())
    return f"127.77.{number >> 8 & 255}.{number % 254 + 1}"


def impostor_of(machine_id: str) -> str:
    """The id of the other machine that answers in its place."""
    return f"{machine_id}~impostor"
