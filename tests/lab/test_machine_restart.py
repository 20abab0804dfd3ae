"""The lab's processes die and come back: front, keeper and gate, each at a bad moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from core.lab import processes, rootfs
from core.lab.host import Host
from core.lab.links import GateLink
from tests.lab.machine_rig import Rig, eventually, lab

DAEMON = "setsid nohup sh -c 'while :; do date +%s%N > {beat}; sleep 0.05; done' >/dev/null 2>&1 & sleep 0.3; echo up"


def isolations() -> list[str]:
    return ["ns", "plain"] if rootfs.probe()[0] == "ns" else ["plain"]


async def next_death(rig: Rig) -> str:
    return await asyncio.wait_for(anext(rig.host.deaths()), 20)


async def test_machines_of_an_earlier_front_are_adopted_and_deaths_in_between_are_told() -> None:
    async with lab() as rig:
        stays = await rig.host.boot(rig.spec("stays"))
        dies = await rig.host.boot(rig.spec("dies"))
        await rig.host.close(leave_running=True)
        os.kill(dies.pid, signal.SIGKILL)
        await eventually(lambda: not processes.is_alive(dies.init_pid))
        rig.host = await Host.start(rig.directory / "lab", with_parent=True)
        assert rig.host.booted() == {"stays": stays}
        assert await next_death(rig) == "dies"
        assert (await rig.ssh(stays, "echo still")).text == "still"
        os.kill(stays.pid, signal.SIGKILL)
        assert await next_death(rig) == "stays"


@pytest.mark.parametrize("isolation", isolations())
async def test_a_killed_keeper_takes_all_machines_along_and_a_new_one_boots_them(isolation: str) -> None:
    async with lab(isolation) as rig:
        booted = await rig.host.boot(rig.spec("one"))
        await rig.ssh(booted, DAEMON.format(beat="$WORKSPACE/beat"))
        family = processes.descendants(booted.init_pid)
        keeper = processes.read_stat(booted.init_pid)
        assert keeper is not None
        os.kill(keeper.parent, signal.SIGKILL)
        assert await next_death(rig) == "one"
        again = await rig.host.boot(rig.spec("one"))
        assert again.direct == booted.direct
        assert (await rig.ssh(again, "test -f $WORKSPACE/beat && echo kept")).text == "kept"
        await eventually(lambda: not any(processes.is_alive(pid) for pid in family))


async def test_a_killed_gate_comes_back_with_the_same_ports() -> None:
    async with lab() as rig:
        booted = await rig.host.boot(rig.spec("one"))
        os.kill(rig.host.gate_pid, signal.SIGKILL)

        async def answers() -> bool:
            return (await rig.ssh(booted, "true")).status == 0

        for _ in range(100):
            if await answers():
                break
            await asyncio.sleep(0.1)
        assert await answers()


async def test_a_boot_that_its_front_did_not_survive_is_finished_by_the_next() -> None:
    async with lab() as rig:
        home = rig.directory / "lab"
        booted = await rig.host.boot(rig.spec("half"))
        await rig.host.close(leave_running=True)
        record = home / "machines/half/record.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "state": "booting", "fault": "reset"}))
        never = home / "machines/never"
        never.mkdir()
        (never / "record.json").write_text(json.dumps({"id": "never", "state": "booting", "ports": [0, 0]}))
        gate = GateLink(home)
        await gate.open()
        for door in ("direct", "proxy"):
            await gate.request("close", key=f"half/{door}")
        await gate.close()
        rig.host = await Host.start(home, with_parent=True)
        assert set(rig.host.booted()) == {"half"}
        again = rig.host.booted()["half"]
        assert (again.pid, again.direct) == (booted.pid, booted.direct)
        assert (await rig.ssh(again, "echo whole")).text == "whole"
        with pytest.raises(TimeoutError):  # what never lived has not died
            await asyncio.wait_for(anext(rig.host.deaths()), 0.5)
        await rig.host.boot(rig.spec("never"))
        await rig.host.destroy("never")


async def test_a_home_deeper_than_a_sockets_address_works() -> None:
    async with lab() as rig:
        deep = rig.directory / ("d" * 120)
        deep.mkdir()
        host = await Host.start(deep / "lab", with_parent=True)
        other = Rig(rig.directory, host)
        booted = await host.boot(rig.spec("deep"))
        assert (await other.ssh(booted, "echo down here")).text == "down here"
        await host.close(leave_running=False)


async def test_a_record_that_cannot_be_read_is_no_machine() -> None:
    async with lab() as rig:
        await rig.host.boot(rig.spec("good"))
        await rig.host.close(leave_running=True)
        for name, text in (("torn", '{"id": "to'), ("odd", '{"id": "odd", "ports": 3}'), ("list", "[]")):
            (rig.directory / "lab/machines" / name).mkdir()
            (rig.directory / "lab/machines" / name / "record.json").write_text(text)
        rig.host = await Host.start(rig.directory / "lab", with_parent=True)
        assert set(rig.host.booted()) == {"good"}
