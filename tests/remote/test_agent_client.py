"""The agent over real SSH: pushed once, re-adopted, replaced, bounded; and machines that do not play by the rules."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from core.agent import wire
from core.domain.errors import AgentMismatch, CommandFailed, Unreachable
from core.domain.readings import MachineReading
from core.remote import agent_archive
from core.remote.agent_client import AgentChannel, AgentOrders
from core.remote.ssh import Connection

if TYPE_CHECKING:
    from tests.remote.conftest import Machine, Rig, Waiter


async def _open(connection: Connection) -> AgentChannel:
    return await AgentChannel.open(connection, hello=AgentOrders(), clock=lambda: 1000.0)


async def _some(channel: AgentChannel, count: int) -> list[MachineReading]:
    found: list[MachineReading] = []
    async for reading in channel.readings():
        found.append(reading)
        if len(found) == count:
            break
    return found


def _pid(machine: Machine) -> int:
    """The daemon's; 0 in the moment in which a new one has taken the file and not yet written into it."""
    return int((machine.home / ".understudy" / "agent.lock").read_text() or 0)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_an_agent_is_pushed_says_hello_and_reports(rig: Rig) -> None:
    machine = await rig.machine()
    logs = machine.home / "workspace" / "logs"
    logs.mkdir()
    (logs / "progress.jsonl").write_text('{"step": 7, "loss": 0.5, "steps": 9}\n{"step": 8, "lo')
    (logs / "a.log").write_text("one\n\x1b[2Jtwo\n")
    channel = await _open(await rig.connect(machine))
    assert channel.hello.workspace == str(machine.home / "workspace")
    assert channel.hello.cores
    first, second = await _some(channel, 2)
    assert first.at == second.at == 1000.0
    assert second.cpu_pct is not None
    assert second.memory_total_mib
    assert second.disk_total_mib
    assert second.progress is not None
    assert (second.progress.step, second.progress.loss, second.progress.steps) == (7, 0.5, 9)
    tail = await channel.tail(1)
    assert (tail.path, tail.lines) == (str(logs / "a.log"), ["·[2Jtwo"])
    facts = await channel.judge(disk_mib=4)
    assert facts.disk_write_bps > 0
    assert not [p for p in (machine.home / "workspace").iterdir() if p.name != "logs"]
    await channel.close()
    with pytest.raises(Unreachable):
        await channel.tail(1)


async def test_a_broken_connection_leaves_the_daemon_and_the_next_one_finds_it(rig: Rig) -> None:
    machine = await rig.machine()
    channel = await _open(await rig.connect(machine))
    pid = channel.hello.pid
    assert _pid(machine) == pid
    machine.connections[-1].abort()
    with pytest.raises(Unreachable):
        await _some(channel, 100)
    await channel.close()
    again, twice = [await _open(await rig.connect(machine)) for _ in range(2)]
    assert again.hello.pid == twice.hello.pid == pid
    assert len(await _some(again, 2)) == len(await _some(twice, 2)) == 2
    pushed = [command for command in machine.commands if "attach" in command]
    assert len(pushed) == 3
    for channel in (again, twice):
        await channel.close()


async def test_many_attach_at_once_and_there_is_one_daemon(rig: Rig) -> None:
    machine = await rig.machine()
    connection = await rig.connect(machine)
    channels = await asyncio.gather(*(_open(connection) for _ in range(4)))
    assert {channel.hello.pid for channel in channels} == {_pid(machine)}
    for channel in channels:
        await channel.close()


async def test_a_killed_daemon_is_started_again_by_its_parent(rig: Rig, until: Waiter) -> None:
    machine = await rig.machine()
    channel = await _open(await rig.connect(machine))
    old = channel.hello.pid
    os.kill(old, signal.SIGKILL)
    with pytest.raises(Unreachable):
        await _some(channel, 100)
    await channel.close()
    await until(lambda: _pid(machine) not in (old, 0))
    again = await _open(await rig.connect(machine))
    assert again.hello.pid not in (old, 0)
    await again.close()


async def test_drain_ends_the_daemon(rig: Rig, until: Waiter) -> None:
    machine = await rig.machine()
    channel = await _open(await rig.connect(machine))
    pid = channel.hello.pid
    await channel.drain()
    await until(lambda: not _is_alive(pid))


async def test_another_version_takes_over_and_keeps_the_deadline(
    rig: Rig, until: Waiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await rig.machine()
    channel = await _open(await rig.connect(machine))
    old = channel.hello.pid
    await channel.set_deadline(5000, "DELETE", "https://console.vast.ai/api/v0/instances/7/", "k3y")
    deadline = machine.home / ".understudy" / "deadline.json"
    assert deadline.stat().st_mode & 0o777 == 0o600
    real = agent_archive.build()
    data = real.data
    path = machine.home / "other.pyz"
    path.write_bytes(data)
    other = await _repacked(rig, data)
    monkeypatch.setattr(agent_archive, "build", lambda: other)
    newer = await _open(await rig.connect(machine))
    assert newer.hello.version == other.version != real.version
    assert newer.hello.deadline_in_s == pytest.approx(5000, abs=60)
    await until(lambda: not _is_alive(old))
    await newer.set_deadline(None)
    assert not deadline.exists()
    log = (machine.home / ".understudy" / "agent.log").read_text()
    assert "k3y" not in log + " ".join(machine.commands)
    await newer.close()


async def _repacked(rig: Rig, data: bytes) -> agent_archive.Archive:
    """The same agent under another version."""
    import io
    import zipfile

    old = zipfile.ZipFile(io.BytesIO(data))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "__main__.py":
                content = content.replace(agent_archive.build().version.encode(), b"0123456789abcdef")
            new.writestr(name, content)
    return agent_archive.Archive("0123456789abcdef", out.getvalue())


async def test_orders_that_make_no_sense_are_refused(rig: Rig) -> None:
    channel = await _open(await rig.connect(await rig.machine()))
    with pytest.raises(CommandFailed, match="url is https"):
        await channel.set_deadline(10, "DELETE", "http://example.invalid/", "k")
    with pytest.raises(CommandFailed, match="in_s"):
        await channel.set_deadline(-1, "DELETE", "https://example.invalid/", "k")
    await channel.close()


@pytest.mark.parametrize(
    "hostile",
    [
        "yes",
        "head -c 200000 /dev/zero; sleep 60",
        r"printf '\0understudy-agent-1\n'; yes",
        r"printf '\0understudy-agent-1\n\0\0\0\0'; sleep 60",
        r"printf '\0understudy-agent-1\n\0\0\0\2[]'; while :; do printf '\0\0\0\3[1]'; done",
        r"printf '\0understudy-agent-1\n\0\0\0\7notjson'; sleep 60",
        "echo nothing here; exit 3",
    ],
)
async def test_a_machine_that_breaks_the_protocol_is_cut_off(rig: Rig, until: Waiter, hostile: str) -> None:
    machine = await rig.machine()
    machine.instead["attach"] = hostile
    with pytest.raises(AgentMismatch):
        await _open(await rig.connect(machine))
    await until(lambda: all(child.returncode is not None for child in machine.children))


async def test_a_machine_that_floods_after_its_hello_is_cut_off(rig: Rig) -> None:
    machine = await rig.machine()
    hello = {"t": "hello", "protocol": wire.PROTOCOL, "version": agent_archive.build().version}
    (machine.home / "hello").write_bytes(wire.MAGIC + wire.encode_json(hello))
    (machine.home / "report").write_bytes(wire.encode_json([0.0]))
    machine.instead["attach"] = "cat hello; while :; do cat report report report report; done"
    channel = await _open(await rig.connect(machine))
    with pytest.raises(AgentMismatch, match="floods"):
        await _some(channel, 10_000)
    with pytest.raises(AgentMismatch):
        await channel.tail(1)
    await channel.close()


async def test_a_machine_without_python_says_so(rig: Rig) -> None:
    machine = await rig.machine()
    machine.instead["understudy"] = r"printf '\n=understudy=\n/root\n\nnone\n'"
    with pytest.raises(CommandFailed, match="no Python"):
        await _open(await rig.connect(machine))
    machine.instead["understudy"] = "echo This account is not available"
    with pytest.raises(AgentMismatch):
        await _open(await rig.connect(machine))
    machine.instead["understudy"] = "yes"
    with pytest.raises((CommandFailed, AgentMismatch)):
        await _open(await rig.connect(machine))


async def test_an_agent_that_never_says_hello_is_given_up(rig: Rig) -> None:
    machine = await rig.machine()
    machine.instead["attach"] = "sleep 60"
    with pytest.raises(Unreachable):
        await AgentChannel.open(await rig.connect(machine), hello=AgentOrders(), clock=time.time, timeout_s=0.5)


async def test_a_slow_reader_gets_the_latest_and_no_queue(rig: Rig) -> None:
    machine = await rig.machine()
    hello = {"t": "hello", "protocol": wire.PROTOCOL, "version": agent_archive.build().version}
    reports = b"".join(wire.encode(json.dumps([0.0, [], [], float(n)]).encode()) for n in range(30))
    (machine.home / "all").write_bytes(wire.MAGIC + wire.encode_json(hello) + reports)
    machine.instead["attach"] = "cat all; sleep 60"
    channel = await _open(await rig.connect(machine))
    while channel._received < 30:
        await asyncio.sleep(0.01)
    (last,) = await _some(channel, 1)
    assert last.cpu_pct == 29.0
    await channel.close()
