"""A machine's GPU figures follow what its processes really do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from core.lab import rootfs
from core.lab.card import Card, Shown
from core.lab.host import Booted
from core.lab.meter import visible_gpus
from tests.lab.machine_rig import H100, Rig, lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

BURN = "python3 -I -S -c 'while True: pass' >/dev/null 2>&1 </dev/null & echo $!"
SETTLES_S = 20.0  # what a crowded test host may need


def isolations() -> list[str]:
    return ["ns", "plain"] if rootfs.probe()[0] == "ns" else ["plain"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=isolations())
async def there(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Rig, Booted]]:
    async with lab(request.param) as rig:
        yield rig, await rig.host.boot(rig.spec("gpu", gpus=(H100, H100)))


There = tuple[Rig, Booted]


async def gpus(there: There) -> list[list[int]]:
    """Per GPU: utilisation in %, memory used in MiB."""
    rig, booted = there
    said = await rig.ssh(booted, "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits")
    return [[int(cell) for cell in line.split(",")] for line in said.text.splitlines()]


async def apps(there: There) -> list[list[str]]:
    rig, booted = there
    said = await rig.ssh(booted, "nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits")
    return [line.split(", ") for line in said.text.splitlines()]


async def until(look: Callable[[], Awaitable[bool]], limit_s: float = SETTLES_S) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not await look():
        assert loop.time() < deadline, "the figures did not follow"
        await asyncio.sleep(0.1)


async def end(there: There, *pids: str) -> None:
    rig, booted = there
    await rig.ssh(booted, f"kill -9 {' '.join(pids)}")

    async def left() -> bool:
        return not {row[0] for row in await apps(there)} & set(pids)

    await until(left)


async def nobody(there: There) -> bool:
    return await apps(there) == [] and all(used == 1 for _, used in await gpus(there))


async def test_two_workloads_are_two_rows_and_leave_when_they_end(there: There) -> None:
    rig, booted = there
    assert [used for _, used in await gpus(there)] == [1, 1]
    first = (await rig.ssh(booted, f"LAB_VRAM_MIB=20000 {BURN}")).text
    second = (await rig.ssh(booted, f"CUDA_VISIBLE_DEVICES=1 LAB_VRAM_MIB=3000 {BURN}")).text

    async def both() -> bool:
        rows, figures = await apps(there), await gpus(there)
        return sorted(rows) == sorted([[first, "20000"], [second, "3000"]]) and all(busy > 60 for busy, _ in figures)

    await until(both)
    (_, used0), (_, used1) = await gpus(there)
    assert (used0, used1) == (20001, 3001)
    await end(there, first)
    assert (await gpus(there))[0][1] == 1
    await end(there, second)
    assert await nobody(there)


async def test_the_end_of_a_workload_shows_within_two_seconds(there: There) -> None:
    rig, booted = there
    pid = (await rig.ssh(booted, f"LAB_VRAM_MIB=1000 {BURN}")).text

    async def runs() -> bool:
        return (await gpus(there))[0][0] > 60 and bool(await apps(there))

    await until(runs)
    state = booted.root / ".lab" / "gpu"
    await rig.ssh(booted, f"kill -9 {pid}")
    ended = asyncio.get_running_loop().time()
    while "app " in (text := state.read_text()) or "utilization.gpu=0" not in text:
        await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - ended < SETTLES_S


async def test_an_exported_variable_makes_no_workload_of_shells_and_workers(there: There) -> None:
    rig, booted = there
    script = "import os\nif os.fork() == 0:\n    while True: pass\nwhile True: pass"
    (booted.workspace_root / "forks.py").write_text(script)
    work = "sh -c 'python3 -I -S $WORKSPACE/forks.py; true' >/dev/null 2>&1 </dev/null"
    command = f"export LAB_VRAM_MIB=500; nohup {work} & echo $!"
    shell = (await rig.ssh(booted, command)).text

    async def one_row() -> bool:
        rows = await apps(there)
        return len(rows) == 1 and rows[0][0] != shell and (await gpus(there))[0][0] > 60

    await until(one_row)
    await end(there, (await apps(there))[0][0])
    await rig.ssh(booted, f"kill -9 {shell}; pkill -9 -f '[f]orks.py'")
    await until(lambda: nobody(there))


async def test_a_program_can_declare_its_memory_by_a_file(there: There) -> None:
    rig, booted = there
    place = "/.lab/vram" if booted.isolation == "ns" else f"{booted.root}/.lab/vram"
    pid = (await rig.ssh(booted, f"sleep 1000 >/dev/null 2>&1 </dev/null & echo 7777 > {place}/$!; echo $!")).text

    async def declared() -> bool:
        return await apps(there) == [[pid, "7777"]]

    await until(declared)
    assert (await gpus(there))[0] == [0, 7778]
    await end(there, pid)


async def test_more_memory_than_the_card_has_is_shown_as_a_full_card(there: There) -> None:
    rig, booted = there
    pid = (await rig.ssh(booted, f"LAB_VRAM_MIB=999999 {BURN}")).text

    async def full() -> bool:
        return (await gpus(there))[0][1] == H100.vram_mib

    await until(full)
    await end(there, pid)


async def test_a_fault_of_the_gpu_is_shown_at_once_and_healed(there: There) -> None:
    rig, booted = there
    for fault, status in (("mismatch", 18), ("lost", 15), ("none", 6), (None, 0)):
        await rig.host.set_gpu("gpu", fault=fault)
        assert (await rig.ssh(booted, "nvidia-smi")).status == status
    with pytest.raises(OSError, match="no fault"):
        await rig.host.set_gpu("gpu", fault="melted")


async def test_links_that_a_user_leaves_do_not_lead_the_meter_out(there: There) -> None:
    rig, booted = there
    outside = rig.directory / "outside"
    outside.mkdir(exist_ok=True)
    lab_directory = booted.root / ".lab"
    lab_directory.rename(booted.root / ".lab-away")
    lab_directory.symlink_to(outside)
    await asyncio.sleep(2.5)
    assert list(outside.iterdir()) == []
    lab_directory.unlink()
    (booted.root / ".lab-away").rename(lab_directory)


async def test_memory_and_cpu_are_the_machines_own(there: There) -> None:
    rig, booted = there
    if booted.isolation == "ns":
        pid = (await rig.ssh(booted, BURN)).text
        one = "grep '^cpu ' /proc/stat | cut -d' ' -f2-; grep MemAvailable /proc/meminfo"

        async def reading() -> tuple[int, int, int]:
            cpu, memory = (await rig.ssh(booted, one)).text.splitlines()
            user, _, _, idle = [int(word) for word in cpu.split()[:4]]
            return user, idle, int(memory.split()[1])

        before = await reading()

        async def counted() -> bool:
            now = await reading()
            return now[0] > before[0] + 50 and now[1] > before[1]

        await until(counted)
        assert (await reading())[2] < 64_000 * 1024
        await rig.ssh(booted, f"kill -9 {pid}")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0,)),
        ({"CUDA_VISIBLE_DEVICES": "2"}, (2,)),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, (3, 1)),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "0,9,1"}, (0,)),
        ({"LOCAL_RANK": "2"}, (2,)),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "3,2"}, (2,)),
        ({"LOCAL_RANK": "7"}, ()),
    ],
)
async def test_the_environment_decides_which_gpus_are_used(environ: dict[str, str], expected: tuple[int, ...]) -> None:
    assert visible_gpus(environ, 4) == expected


async def test_a_card_warms_and_cools_slowly_and_works_at_once() -> None:
    shown = Shown(Card("X", 1000, 400.0, data_center=False, serial="s"))
    assert (shown.pstate, shown.power_w) == ("P8", 40.0)
    shown.step(1.0, 500, 1.0)
    assert (shown.pstate, shown.power_w, shown.used_mib) == ("P2", 400.0, 501)
    assert 35 < shown.temperature_c < 40
    for _ in range(200):
        shown.step(1.0, 500, 1.0)
    assert 79 < shown.temperature_c <= 80
    shown.step(0.0, 0, 1.0)
    assert shown.pstate == "P2"
    assert shown.temperature_c > 75
    shown.step(0.0, 0, 5.0)
    assert shown.pstate == "P8"
