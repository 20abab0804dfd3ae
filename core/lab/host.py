"""The async face of the lab's machines: boots, stops, breaks and heals real process trees behind real ports.

One rule: every method returns when what it says is true on this host; what cannot be made true raises `OSError` with a sentence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GpuSpec:
    """One GPU as the machine's driver would report it."""

    name: str
    vram_mib: int
    power_limit_w: float
    data_center: bool


@dataclass(frozen=True)
class MachineSpec:
    """What a machine shows to whoever logs in. `onstart` is shell text run by init at every boot, log in /var/log/onstart.log."""

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


@dataclass(frozen=True)
class Booted:
    """A machine that accepts logins. `pid` is its SSH server: SIGKILL, SIGSTOP and SIGCONT to it act on the whole machine."""

    pid: int
    init_pid: int
    isolation: str  # "ns" | "plain"
    direct: tuple[str, int]
    proxy: tuple[str, int]
    root: Path
    workspace_root: Path
    address: str  # loopback address of its own, also $LAB_ADDR inside: workloads bind their ports there


class Host:
    """Owner of the keeper and the gate of one lab home."""

    @classmethod
    async def start(cls, home: Path, *, with_parent: bool) -> Host:
        """Start, or find alive and adopt, keeper and gate of `home` (= <understudy home>/lab)."""
        ...

    @property
    def isolation(self) -> str:
        """"ns" or "plain", found out by doing it once at the keeper's start."""
        ...

    @property
    def isolation_reason(self) -> str:
        """Why it is "plain", as a sentence; empty for "ns"."""
        ...

    def booted(self) -> dict[str, Booted]:
        """The machines alive now, those adopted from an earlier front included."""
        ...

    async def boot(self, spec: MachineSpec, *, ports: tuple[int, int] | None = None) -> Booted:
        """Boot; a second boot of the same id keeps its files, host key and (unless `ports` says otherwise) ports.
        Already alive: its keys are refreshed and the same `Booted` is returned. Any network fault of the machine is healed."""
        ...

    async def set_keys(self, machine_id: str, authorized_keys: Sequence[str]) -> None:
        """Who may log in from now on; existing connections stay. Works on stopped machines too."""
        ...

    async def stop(self, machine_id: str) -> None:
        """SIGTERM, a short grace, then the tree ends; files and ports stay reserved, connects are refused. Gone already: silent."""
        ...

    async def destroy(self, machine_id: str) -> None:
        """The tree ends at once, ports close, files are removed. Unknown id: silent."""
        ...

    async def kill(self, machine_id: str, *, power_off: bool) -> None:
        """The tree is killed; the network answers with resets, or (power_off) with silence. Reported by `deaths()`."""
        ...

    async def freeze(self, machine_id: str) -> None:
        """SIGSTOP to everything in the machine; connects succeed, nobody answers."""
        ...

    async def thaw(self, machine_id: str) -> None: ...

    async def network(
        self, machine_id: str, *, fault: str | None, latency_s: float = 0.0, bytes_per_s: int = 0
    ) -> None:
        """fault: "drop" | "reset" | "link-down" | None; latency one way; rate per connection and direction, 0 = unlimited."""
        ...

    async def wrong_host_key(self, machine_id: str, on: bool) -> None:
        """New connections meet another server with another host key; existing ones are reset. User processes live on."""
        ...

    async def set_gpu(self, machine_id: str, *, fault: str | None) -> None:
        """fault: "mismatch" | "lost" | "none" | "hang" | None."""
        ...

    async def flood(self, machine_id: str, *, needle: str | None) -> None:
        """Every exec channel, open or new, whose command contains `needle` gets endless bytes on stdout; None ends it."""
        ...

    async def disk_full(self, machine_id: str, on: bool) -> None:
        """Writes to the machine's disk fail with ENOSPC. Refused (OSError) without namespaces."""
        ...

    async def slow_disk(self, machine_id: str, *, bytes_per_s: int) -> None:
        """Writers of the machine are held to this rate; 0 ends it. Refused (OSError) where it cannot be made real."""
        ...

    async def run(self, machine_id: str, argv: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        """Run inside the machine as its root: (exit status, stdout+stderr). Raises TimeoutError; the command is then killed."""
        ...

    def deaths(self) -> AsyncIterator[str]:
        """Ids of machines whose init ended without `stop` or `destroy`; those that died while no front ran come first."""
        ...

    async def close(self, *, leave_running: bool) -> None:
        """Let go. Unless `leave_running`, all machines, keeper and gate end first and the sockets are removed."""
        ...
