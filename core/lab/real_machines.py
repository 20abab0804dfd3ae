"""Machines that are process trees on this host.

Its one rule: what a machine really is comes from `machine_spec`, lies included.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from core.lab.catalogue import OLD_CUDA, OLD_DRIVER
from core.lab.gpus import MODELS
from core.lab.host import Booted, GpuSpec, Host, MachineSpec
from core.lab.machine_faults import end_faults_at_boot
from core.lab.machines import Heartbeat, boot_log
from core.lab.state import Contract, Effect
from core.lab.world import World

COMMAND_TIMEOUT_S = 10.0
LOG_BYTES = 200_000


def machine_spec(world: World, contract: Contract, ports: tuple[int, int]) -> MachineSpec:
    """What the machine of a contract really is: what its host advertises, less its lie."""
    host = world.hosts[contract.machine_id]
    gpu = GpuSpec(host.gpu.driver_name, host.gpu.vram_mib, host.gpu.power_limit_w, host.gpu.data_center)
    count = contract.gpus
    if contract.lie == "gpu-count":
        count -= 1
    elif contract.lie == "vram":
        gpu = replace(gpu, vram_mib=gpu.vram_mib // 2)
    elif contract.lie == "gpu-model":
        slower = [m for m in MODELS if m.half_tflops < host.gpu.half_tflops] or list(MODELS)
        nearest = min(slower, key=lambda m: abs(m.vram_mib - host.gpu.vram_mib))
        gpu = replace(gpu, name=nearest.driver_name)
    share = contract.gpus / host.gpu_count
    return MachineSpec(
        id=str(contract.id),
        hostname=f"c{contract.id}",
        gpus=(gpu,) * count,
        driver_version=OLD_DRIVER if contract.lie == "driver" else host.driver_version,
        cuda_version=str(OLD_CUDA if contract.lie == "cuda" else host.cuda),
        cores=max(1, int(host.cpu_cores * share)),
        ram_mib=int(host.ram_mib * share),
        disk_gb=contract.disk_gb / 4 if contract.lie == "disk-space" else contract.disk_gb,
        authorized_keys=tuple(contract.keys.values()),
        env={**contract.env, **_provider_env(contract, ports)},
        onstart=contract.onstart,
    )


def _provider_env(contract: Contract, ports: tuple[int, int]) -> dict[str, str]:
    """The variables that the provider sets in every container."""
    return {
        "CONTAINER_ID": str(contract.id),
        "CONTAINER_API_KEY": contract.api_key,
        "VAST_CONTAINERLABEL": f"C.{contract.id}",
        "PUBLIC_IPADDR": contract.public_host,
        "VAST_TCP_PORT_22": str(ports[0]),
        "GPU_COUNT": str(contract.gpus),
    }


def free_ports() -> tuple[int, int]:
    """Two loopback ports that nobody uses now; the machine's environment must name its port before it boots."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


class RealMachines:
    """Machines of `host`, one per contract that has been booted."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self.host: Host | None = host
        self._host = host

    @property
    def isolation(self) -> str:
        """As the host found out."""
        return self._host.isolation

    async def carry_out(self, effect: Effect) -> None:
        """Boot, reboot, stop, power off or destroy."""
        contract = self._world.state.contracts.get(effect.contract_id)
        machine_id = str(effect.contract_id)
        if effect.kind == "destroy":
            await self._host.destroy(machine_id)
        elif contract is None or contract.destroyed_at is not None:
            return
        elif effect.kind == "stop":
            await self._host.stop(machine_id)
        elif effect.kind == "power-off":
            await self._host.kill(machine_id, power_off=True)
        elif contract.boots == effect.boot:
            if effect.kind == "reboot":
                await self._host.stop(machine_id)
            await self._boot(contract, effect.boot)

    async def _boot(self, contract: Contract, boot: int) -> None:
        world = self._world
        ports = (contract.direct_port, contract.proxy_port) if contract.direct_port else free_ports()
        spec = machine_spec(world, contract, ports)
        try:
            booted = await self._host.boot(spec, ports=ports)
            await end_faults_at_boot(world, self._host, contract)
        except OSError as error:
            contract.boot_error = str(error)
            world.boot_failed(contract, boot)
            return
        remember(contract, booted)
        if spec.authorized_keys != tuple(contract.keys.values()):
            await self.set_keys(contract)
        world.changed = True
        world.booted(contract, boot)

    async def set_keys(self, contract: Contract) -> None:
        """Live; existing connections stay. A machine that has never been up gets its keys when it boots."""
        if contract.root:
            await self._host.set_keys(str(contract.id), tuple(contract.keys.values()))

    async def run(self, contract: Contract, argv: list[str]) -> bytes:
        """What it printed; a failure is told in words, as the provider does."""
        try:
            _status, text = await self._host.run(str(contract.id), argv, timeout_s=COMMAND_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            return f"{argv[0]}: {error or 'timed out'}\n".encode()
        return text

    def heartbeat(self, contract: Contract) -> Heartbeat | None:
        """From the file that the machine's nvidia-smi reads too."""
        if not contract.root or contract.phase != "running":
            return None
        return read_heartbeat(Path(contract.root) / ".lab" / "gpu")

    async def logs(self, contract: Contract) -> bytes:
        """The provider's lines, then what the start script printed; read from the files, so that a stopped machine has
        a log too.
        """
        path = Path(contract.root) / "var/log/onstart.log"
        return boot_log(contract) + await asyncio.to_thread(_tail, path) if contract.root else boot_log(contract)


def _tail(path: Path) -> bytes:
    """The last LOG_BYTES of a file that the machine may have replaced by anything: no link is followed, no pipe is
    waited for.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return b""
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LOG_BYTES))
        return file.read(LOG_BYTES)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The mean figures of a meter's state file; None where there is none, or no GPU with figures in it."""
    lines = _tail(path).decode(errors="replace").splitlines()
    gpus = [
        dict(pair.partition("=")[::2] for pair in line[4:].split("\t")) for line in lines if line.startswith("gpu ")
    ]
    try:
        utilization, temperature, memory = (
            [float(gpu[key]) for gpu in gpus] for key in ("utilization.gpu", "temperature.gpu", "memory.used")
        )
    except (KeyError, ValueError):
        return None
    return Heartbeat(fmean(utilization), fmean(temperature), sum(memory) / 1024) if gpus else None


def remember(contract: Contract, booted: Booted) -> None:
    """Note where a machine is and who it is."""
    contract.public_host = booted.direct[0]
    contract.direct_port, contract.proxy_port = booted.direct[1], booted.proxy[1]
    contract.pid, contract.init_pid = booted.pid, booted.init_pid
    contract.isolation, contract.address = booted.isolation, booted.address
    contract.root, contract.workspace_root = str(booted.root), str(booted.workspace_root)


async def adopt(world: World, host: Host, *, was_paused: bool) -> None:
    """After a restart: note machines that live on, finish boots that were under way, end what no contract knows.

    A lab that was ended in good order starts its machines again; otherwise those that are gone have died.
    """
    alive = host.booted()
    pending = {effect.contract_id for effect in world.state.pending}
    for machine_id in alive:
        contract = world.state.contracts.get(int(machine_id))
        if contract is None or contract.destroyed_at is not None:
            await host.destroy(machine_id)
    for contract in list(world.state.contracts.values()):
        booted = alive.get(str(contract.id))
        if contract.destroyed_at is not None:
            continue
        if booted is not None and contract.phase in ("running", "booting", "rebooting"):
            remember(contract, booted)
        elif contract.phase == "running":
            world.move(contract, "reboot" if was_paused else "die")
        elif contract.phase in ("booting", "rebooting") and contract.id not in pending:
            world.effect("boot", contract)
    world.changed = True
