"""The lab's nvidia-smi against what the real one prints: formats, headers, errors, exit codes."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import signal
from pathlib import Path

import pytest

from core.lab import smi
from core.lab.card import Card, Shown
from core.lab.furnish import furnish
from tests.lab.machine_rig import Finished, finish

UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
CONSUMER = Card("NVIDIA GeForce RTX 4090", 24_564, 450.0, data_center=False, serial="m/0")
SERVER = Card("NVIDIA H100 80GB HBM3 SXM5 with a long name", 81_559, 700.0, data_center=True, serial="m/1")


def write_state(root: Path, *cards: Card, fault: str = "", apps: tuple[tuple[int, int, str, int], ...] = ()) -> None:
    lines = ["driver_version 570.86.15", "cuda_version 12.8", *([f"fault {fault}"] if fault else [])]
    for index, card in enumerate(cards):
        shown = Shown(card)
        shown.step(0.5 if index == 0 else 0.0, 4096 if index == 0 else 0, 1.0)
        lines.append(shown.line(index))
    for index, pid, name, used in apps:
        pairs = (f"index={index}", f"gpu_uuid={cards[index].uuid}", f"pid={pid}", f"process_name={name}")
        lines.append("app " + "\t".join((*pairs, f"used_gpu_memory={used}")))
    (root / ".lab" / "gpu").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    furnish(
        place,
        isolation="plain",
        hostname="h",
        cores=4,
        ram_mib=1000,
        disk_gb=10.0,
        passthrough=False,
        authorized_keys=(),
    )
    write_state(place, CONSUMER, SERVER, apps=((0, 4321, "python3", 4096),))
    return place


async def run(root: Path, *arguments: str) -> Finished:
    return await finish([str(root / ".lab/bin/nvidia-smi"), *arguments])


async def query(root: Path, fields: str, form: str = "csv") -> list[list[str]]:
    done = await run(root, f"--query-gpu={fields}", f"--format={form}")
    assert done.status == 0, done.text
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(done.out.decode()))]


async def test_the_table_is_91_columns_and_names_driver_and_cuda(root: Path) -> None:
    done = await run(root)
    lines = done.out.decode().splitlines()
    assert {len(line) for line in lines[1:]} == {91}
    assert re.search(r"NVIDIA-SMI 570\.86\.15 +Driver Version: 570\.86\.15 +CUDA Version: 12\.8 +\|", done.text)
    assert re.search(r"\|   0  NVIDIA GeForce RTX 4090 +On  \|   00000000:01:00\.0 Off \| +N/A \|", done.text)
    assert "NVIDIA H100 80GB HBM3 ..." in done.text
    assert re.search(r"\| +4097MiB / +24564MiB \| +50% +Default \|", done.text)
    assert re.search(r"\|    0   N/A  N/A +4321      C   python3 +4096MiB \|", done.text)


async def test_an_idle_machine_says_that_nothing_runs(root: Path) -> None:
    write_state(root, CONSUMER)
    assert "No running processes found" in (await run(root)).text
    apps = await run(root, "--query-compute-apps=pid", "--format=csv,noheader")
    assert (apps.status, apps.out) == (0, b"")


async def test_the_list_has_names_and_uuids(root: Path) -> None:
    lines = (await run(root, "-L")).text.splitlines()
    assert lines[0] == f"GPU 0: NVIDIA GeForce RTX 4090 (UUID: {CONSUMER.uuid})"
    assert UUID.match(CONSUMER.uuid)
    assert CONSUMER.uuid != SERVER.uuid
    assert len(lines) == 2


async def test_headers_carry_units_and_aliases_their_canonical_name(root: Path) -> None:
    fields = "index,gpu_name,utilization.gpu,memory.used,power.draw,clocks.sm,temperature.gpu,pstate,fan.speed"
    head, first, second = await query(root, fields)
    assert head == [
        "index", "name", "utilization.gpu [%]", "memory.used [MiB]", "power.draw [W]", "clocks.current.sm [MHz]",
        "temperature.gpu", "pstate", "fan.speed [%]",
    ]  # fmt: skip
    assert first[:4] == ["0", "NVIDIA GeForce RTX 4090", "50 %", "4097 MiB"]
    assert re.fullmatch(r"\d+\.\d\d W", first[4])
    assert second[8] == "[N/A]"
    assert first[8].endswith(" %")


async def test_nounits_strips_values_and_keeps_the_header(root: Path) -> None:
    head, first, _ = await query(root, "memory.total,utilization.gpu", "csv,nounits")
    assert head == ["memory.total [MiB]", "utilization.gpu [%]"]
    assert first == ["24564", "50"]
    assert (await query(root, "memory.total", "csv,noheader,nounits"))[0] == ["24564"]


async def test_values_that_there_are_not(root: Path) -> None:
    _, consumer, server = await query(
        root,
        "serial,ecc.mode.current,mig.mode.current,power.management,clocks_throttle_reasons.gpu_idle,timestamp,count",
    )
    assert consumer[:3] == ["[N/A]", "[N/A]", "[N/A]"]
    assert server[1:3] == ["Enabled", "Disabled"]
    assert consumer[3] == "[Requested functionality has been deprecated]"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}", consumer[5])
    assert consumer[6] == "2"


async def test_every_field_can_be_asked(root: Path) -> None:
    rows = await query(root, ",".join(smi.fields()))
    assert len(rows) == 3
    assert all(len(row) == len(smi.fields()) and all(row) for row in rows)


async def test_compute_apps_are_rows_with_their_gpu(root: Path) -> None:
    done = await run(root, "--query-compute-apps=pid,process_name,used_memory,gpu_uuid,gpu_name", "--format=csv")
    assert done.text.splitlines() == [
        "pid, process_name, used_gpu_memory [MiB], gpu_uuid, gpu_name",
        f"4321, python3, 4096 MiB, {CONSUMER.uuid}, NVIDIA GeForce RTX 4090",
    ]


async def test_i_chooses_by_index_uuid_and_bus(root: Path) -> None:
    for which in ("1", SERVER.uuid, "00000000:02:00.0"):
        done = await run(root, "-i", which, "--query-gpu=index", "--format=csv,noheader")
        assert done.text == "1"
    assert (await run(root, "-i", "1", "--query-compute-apps=pid", "--format=csv,noheader")).text == ""
    assert (await run(root, "--id=7", "-L")).status == 6


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--query-gpu=cuda_version", "--format=csv"], 2, 'Field "cuda_version" is not a valid field to query.'),
        (["--query-compute-apps=nonsense", "--format=csv"], 2, 'Field "nonsense" is not a valid field to query.'),
        (["--query-gpu=name"], 2, "--format"),
        (["--query-gpu=name", "--format=xml"], 2, 'Invalid format "xml"'),
        (["--frobnicate"], 2, "not recognized"),
        (["--query-gpu"], 2, "requires an argument"),
        (["-l", "0"], 2, "Invalid value"),
        (["-q", "-x"], 2, "Invalid combination"),
        (["-h"], 0, "simulated"),
    ],
)
async def test_errors_are_words_on_stdout_and_a_status(
    root: Path, arguments: list[str], status: int, words: str
) -> None:
    done = await run(root, *arguments)
    assert (done.status, done.err) == (status, b"")
    assert words in done.text


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("mismatch", 18, "Driver/library version mismatch"),
        ("lost", 15, "GPU is lost"),
        ("none", 6, "No devices were found"),
    ],
)
async def test_a_broken_gpu_fails_as_the_real_tool_does(root: Path, fault: str, status: int, words: str) -> None:
    write_state(root, CONSUMER, fault=fault)
    for arguments in ([], ["-L"], ["--query-gpu=name", "--format=csv"]):
        done = await run(root, *arguments)
        assert done.status == status
        assert words in done.text


async def test_no_driver_is_said_so(root: Path) -> None:
    (root / ".lab" / "gpu").unlink()
    done = await run(root)
    assert done.status == 9
    assert "couldn't communicate with the NVIDIA driver" in done.text


async def test_a_hang_hangs_and_can_be_ended(root: Path) -> None:
    write_state(root, CONSUMER, fault="hang")
    child = await asyncio.create_subprocess_exec(str(root / ".lab/bin/nvidia-smi"), stdout=asyncio.subprocess.PIPE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(child.wait(), 0.5)
    child.kill()
    await child.wait()
    assert child.stdout is not None
    assert await child.stdout.read() == b""


@pytest.mark.parametrize("loop", [["-lms", "50"], ["--loop-ms=50"], ["-l", "1"]])
async def test_streaming_prints_the_header_once_and_follows_the_state(root: Path, loop: list[str]) -> None:
    child = await asyncio.create_subprocess_exec(
        str(root / ".lab/bin/nvidia-smi"), "--query-gpu=index,utilization.gpu", "--format=csv", "-i", "0", *loop,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert await child.stdout.readline() == b"index, utilization.gpu [%]\n"
    assert await child.stdout.readline() == b"0, 50 %\n"
    (root / ".lab" / "gpu").write_text((root / ".lab" / "gpu").read_text().replace("gpu=50", "gpu=99"))
    while (line := await child.stdout.readline()) == b"0, 50 %\n":
        pass
    assert line == b"0, 99 %\n"
    child.send_signal(signal.SIGINT)
    await child.stdout.read()
    assert await child.wait() == smi.INTERRUPTED


async def test_a_closed_pipe_ends_it_without_a_traceback(root: Path) -> None:
    done = await finish(["sh", "-c", f"{root}/.lab/bin/nvidia-smi -L -lms 20 | head -1"])
    assert done.status == 0
    assert done.err == b""
    assert done.text.startswith("GPU 0")
