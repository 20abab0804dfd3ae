"""The whole way in the lab: rent over HTTP, reach by SSH, watch its GPUs through the agent; and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.domain.errors import AgentMismatch, HostKeyChanged, Unreachable
from core.domain.readings import MachineReading
from core.providers.base import RentRequest
from core.providers.vast import Vast
from core.remote.agent_client import AgentChannel, AgentOrders
from core.remote.speed import measure_upload
from core.remote.ssh import Address, Connection, connect, make_identity
from tests.lab.running_lab import RunningLab


@dataclass
class Rented:
    lab: RunningLab
    provider_id: str
    own_key: str
    end: tuple[str, str]
    addresses: list[Address]
    identity: Path
    known_hosts: Path

    async def connect(self) -> Connection:
        return await connect(self.provider_id, self.addresses, identity=self.identity, known_hosts=self.known_hosts)

    async def fault(self, name: str) -> None:
        answer = await asyncio.to_thread(lambda: self.lab.fault(name, machine=self.provider_id))
        assert answer.status_code == 200, answer.text

    async def heal(self) -> None:
        await asyncio.to_thread(self.lab.control, "POST", "/lab/heal", {})


async def _rent(lab: RunningLab, folder: Path) -> Rented:
    identity = folder / "ssh" / "id_ed25519"
    public = await make_identity(identity)
    token = lab.about["token"]
    vast = Vast(base_url=lab.vast_url, api_key=lambda: token, simulated=True, pacing_scale=0.0)
    try:
        await vast.authorise_key(public)
        offers = [o for o in (await vast.offers()).offers if o.kind == "on-demand" and o.gpu_count == 2]
        for offer in sorted(offers, key=lambda offer: offer.usd_per_hour):
            request = RentRequest(offer_id=offer.id, label="understudy/me/t1", image=vast.default_image, disk_gb=10.0)
            rented = await vast.rent(request)
            if (await asyncio.to_thread(lab.machine, int(rented.provider_id)))["lie"] is None:
                break
            await vast.destroy(rented.provider_id)  # a host that does not keep its word: not what is tested here
        while True:
            (machine,) = [m for m in (await vast.machines()).machines if m.provider_id == rented.provider_id]
            assert machine.state in ("starting", "running"), machine
            if machine.addresses:
                break
            await asyncio.sleep(0.1)
    finally:
        await vast.close()
    addresses = [Address(a.host, a.port, a.user) for a in machine.addresses]
    end = vast.self_destruct(rented.provider_id)
    return Rented(
        lab, rented.provider_id, rented.own_key or "", end, addresses, identity, folder / "ssh" / "known_hosts"
    )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rented]:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "h").mkdir()
    lab = RunningLab(folder / "h", "--pacing", "off", "--boot-s", "0.2").start()
    yield asyncio.run(_rent(lab, folder))
    lab.close()


@pytest.fixture
async def connection(machine: Rented) -> AsyncIterator[Connection]:
    opened = await machine.connect()
    yield opened
    await opened.close()


async def _until(channel: AgentChannel, condition: Callable[[MachineReading], Any]) -> MachineReading:
    async for reading in channel.readings():
        if condition(reading):
            return reading
    raise AssertionError("readings end by raising")


async def _open(connection: Connection) -> AgentChannel:
    return await AgentChannel.open(connection, hello=AgentOrders(), clock=lambda: 1000.0)


async def test_gpus_and_a_workload_are_seen_and_leave_again(connection: Connection) -> None:
    channel = await _open(connection)
    assert [gpu.index for gpu in channel.hello.gpus] == [0, 1]
    assert channel.hello.isolation == "lab"
    assert channel.hello.driver
    assert channel.hello.cuda
    idle = await _until(channel, lambda reading: len(reading.gpus) == 2)
    assert idle.source == "nvidia-smi"
    assert idle.problem is None
    assert all(gpu.memory_total_mib and gpu.temperature_c and gpu.power_w for gpu in idle.gpus)
    start = "LAB_VRAM_MIB=2000 python3 -c 'while True: pass' >/dev/null 2>&1 & echo $!"
    pid = int((await connection.run(start)).stdout)
    busy = await _until(channel, lambda reading: any(p.gpu_memory_mib for p in reading.processes))
    assert busy.processes[0].pid == pid
    assert busy.processes[0].name.startswith("python")
    await _until(channel, lambda reading: any((gpu.utilization_pct or 0) > 5 for gpu in reading.gpus))
    await connection.run(["kill", "-9", str(pid)])
    calm = await _until(channel, lambda reading: not any(p.gpu_memory_mib for p in reading.processes))
    assert pid not in [p.pid for p in calm.processes]
    assert await measure_upload(connection, 1024 * 1024) > 0
    assert (await channel.judge(disk_mib=4)).disk_write_bps > 0
    await channel.close()


async def test_a_driver_that_does_not_match_is_said(machine: Rented, connection: Connection) -> None:
    channel = await _open(connection)
    await machine.fault("gpu-mismatch")
    reading = await _until(channel, lambda reading: reading.problem)
    assert "mismatch" in (reading.problem or "")
    assert all(gpu.utilization_pct is None for gpu in reading.gpus)
    await machine.heal()
    await _until(channel, lambda reading: reading.problem is None and len(reading.gpus) == 2)
    await channel.close()


async def test_a_machine_that_floods_is_cut_off(machine: Rented, connection: Connection) -> None:
    await machine.fault("flood")
    with pytest.raises(AgentMismatch):
        await _open(connection)
    await machine.heal()
    channel = await _open(connection)
    await channel.close()


async def test_another_host_key_stops_everything(machine: Rented, connection: Connection) -> None:
    await machine.fault("wrong-host-key")
    with pytest.raises(HostKeyChanged):
        await machine.connect()
    await machine.heal()
    again = await machine.connect()
    assert again.host_key == connection.host_key
    await again.close()


async def test_a_cut_line_is_unreachable_and_the_daemon_is_found_again(machine: Rented, connection: Connection) -> None:
    channel = await _open(connection)
    pid = channel.hello.pid
    await machine.fault("reset")
    with pytest.raises(Unreachable):
        await _until(channel, lambda reading: False)
    with pytest.raises(Unreachable):
        await machine.connect()
    await machine.heal()
    again = await machine.connect()
    back = await _open(again)
    assert back.hello.pid == pid
    await back.close()
    await again.close()


async def test_at_its_deadline_the_machine_ends_itself_by_its_own_key(machine: Rented, connection: Connection) -> None:
    channel = await _open(connection)
    method, url = machine.end
    await channel.set_deadline(0.5, method, url, machine.own_key)
    await channel.close()
    while await asyncio.to_thread(machine.lab.row, int(machine.provider_id)) is not None:
        await asyncio.sleep(0.1)
    await connection.closed()
