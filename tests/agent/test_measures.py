"""What the agent measures: real processes and files, and an nvidia-smi that lies, hangs or dies."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.agent import facts, gpus, place, sample, smi, tail
from core.agent.processes import Table

ROWS = """\
printf '0, GPU-a, RTX 4090, 97, 20000, 24564, 61, 411.2, 450.00, 2520, 60, P2, 570.1\\n'
printf '1, GPU-b, RTX 4090, [N/A], 1, 24564, [Not Supported], ERR!, 450.00, 2520, [N/A], P8, 570.1\\n'
"""


@pytest.fixture
def fake_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts an nvidia-smi on PATH: shell text for GPUs and for processes."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LAB_MACHINE", "m1")

    def write(for_gpus: str, for_apps: str) -> None:
        path = tmp_path / "nvidia-smi"
        table = "echo 'CUDA Version: 12.8 '"
        text = f'#!/bin/sh\ncase "$1" in\n--query-gpu*) {for_gpus};;\n--query-comp*) {for_apps};;\n*) {table};;\nesac\n'
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.fixture
def watched() -> Iterator[gpus.Gpus]:
    watching = gpus.Gpus()
    yield watching
    watching.stop()


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def test_gpus_and_their_processes_are_read_from_the_stream(
    fake_smi: Callable[[str, str], None], watched: gpus.Gpus
) -> None:
    loop = "while :; do {} sleep 1; done"
    fake_smi(loop.format(ROWS), loop.format("printf '42, /usr/bin/python3, 1500, GPU-b\\n';"))
    watched.start()
    _until(lambda: watched.known and bool(watched.now().apps))
    seen = watched.now()
    assert seen.source == "nvidia-smi"
    assert seen.rows[0] == [0, "GPU-a", "RTX 4090", 97.0, 20000.0, 24564.0, 61.0, 411.2, 450.0, 2520.0, 60.0, "P2"]
    assert seen.rows[1] == [1, "GPU-b", "RTX 4090", None, 1.0, 24564.0, None, None, 450.0, 2520.0, None, "P8"]
    assert seen.problem == "GPU 1 reports errors instead of figures"
    assert seen.apps == [(42, "python3", 1500.0, 1)]
    assert (watched.driver, watched.cuda) == ("570.1", "12.8")


def test_a_driver_that_lists_no_processes_still_gives_its_figures(
    fake_smi: Callable[[str, str], None], watched: gpus.Gpus
) -> None:
    fake_smi(f"while :; do {ROWS} sleep 0.3; done", "echo 'Not Supported'; exit 3")
    watched.start()
    _until(lambda: watched.known)
    first = watched.now()
    _until(lambda: watched.now().at > first.at)
    assert (len(watched.now().rows), watched.now().apps) == (2, [])


def test_a_driver_that_hangs_never_hangs_us(
    fake_smi: Callable[[str, str], None], watched: gpus.Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "SILENT_S", 0.4)
    fake_smi(f"{ROWS} sleep 600", "sleep 600")
    watched.start()
    _until(lambda: watched.known and "silent" in (watched.now().problem or ""))
    row = watched.now().rows[0]
    assert (row[0], row[2], row[3], row[4], row[5], row[7]) == (0, "RTX 4090", None, None, 24564.0, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "version mismatch"),
        ("echo 'No devices were found'; exit 6", "No devices"),
        ("exit 9", "status 9"),
        ("yes 'not, a, row'", "without end"),
    ],
)
def test_what_nvidia_smi_says_instead_of_figures_is_the_problem(
    fake_smi: Callable[[str, str], None], watched: gpus.Gpus, text: str, problem: str
) -> None:
    fake_smi(text, "sleep 600")
    watched.start()
    _until(lambda: watched.known)
    seen = watched.now()
    assert seen.source == "none"
    assert problem in (seen.problem or "")


def test_without_a_driver_there_is_a_sentence(
    watched: gpus.Gpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LAB_MACHINE", "m1")
    watched.start()
    _until(lambda: watched.known)
    assert "nvidia-smi cannot be run" in (watched.now().problem or "")


def test_the_default_table_that_says_no_cuda_is_no_crash(fake_smi: Callable[[str, str], None]) -> None:
    fake_smi("exit 0", "exit 0")
    assert smi.cuda() == "12.8"
    assert smi.number("[N/A]") is smi.number("nan") is smi.number("1e300") is None


def test_a_busy_process_is_seen_with_its_script_and_without_its_secrets(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys\nprint(flush=True)\nwhile True: pass\n")
    argv = [sys.executable, "-u", str(script), "--token=s3cret"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        table = Table()
        table.pass_()
        _until(lambda: table.pass_() is None and table.seen[child.pid].cpu_pct > 5)
        assert table.name(child.pid).endswith(" train.py")
        assert "s3cret" not in table.name(child.pid)
        assert child.pid in table.top(500, set())
        assert child.pid not in table.top(500, {child.pid})
        assert table.cpu_s_per_s is not None
    finally:
        child.kill()
        child.communicate()
    table.pass_()
    assert child.pid not in table.seen


def test_in_the_lab_only_the_machines_own_processes_count() -> None:
    name = f"own-{os.getpid()}"
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, "LAB_MACHINE": name})
    try:
        table = Table(name)
        _until(lambda: table.pass_() is None and child.pid in table.seen and table.name(child.pid) == "sleep")
        table = Table(name)
        table.pass_()
        assert [pid for pid, one in table.seen.items() if one.ours] == [child.pid]
    finally:
        child.kill()
        child.wait()


def test_sizes_are_plausible(tmp_path: Path) -> None:
    used, total = sample.memory_mib()
    assert used
    assert total
    assert 0 < used < total
    disk_used, disk_total = sample.disk_mib(str(tmp_path))
    assert disk_used is not None
    assert disk_total is not None
    assert 0 < disk_used <= disk_total
    assert sample.disk_mib("/nowhere/at/all") == (None, None)
    assert 1 <= sample.cores() <= (os.cpu_count() or 1)
    network = sample.Network()
    assert network.rates() == (None, None)
    assert all(rate is not None and rate >= 0 for rate in network.rates())


def test_a_disk_is_judged_and_left_as_it_was(tmp_path: Path) -> None:
    said = facts.judge(str(tmp_path), 4, 2)
    assert isinstance(said["disk_write_bps"], float)
    assert said["disk_write_bps"] > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        facts.judge(str(tmp_path / "none"), 4, 2)


def test_the_newest_log_is_tailed_and_nothing_else_is_opened(tmp_path: Path) -> None:
    assert tail.tail(str(tmp_path), 10) == {"path": None, "lines": []}
    (tmp_path / "old.log").write_text("x\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    os.mkfifo(logs / "pipe.log")
    (logs / "run.log").write_bytes(b"first\n" + b"y" * 5000 + b"\n\xffend\n")
    found = tail.tail(str(tmp_path), 2)
    assert found["path"] == str(logs / "run.log")
    assert found["lines"] == ["y" * 2000, "\ufffdend"]
    assert tail.last_lines(str(logs / "pipe.log"), 5) == []
    assert tail.last_lines(str(logs / "run.log"), 0) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"step": 5, "loss": 1.5, "steps": 10}\n', [5, 1.5, 10]),
        ('{"step": 5}\n{"step": 6, "lo', [5, None, None]),
        ('{"step": 5, "loss": NaN}\n', [5, None, None]),
        ('{"step": "x"}\n', None),
        ("[1]\n", None),
        ("", None),
    ],
)
def test_progress_is_the_newest_whole_line(tmp_path: Path, text: str, expected: list[object] | None) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "progress.jsonl").write_text(text)
    found = tail.progress(str(tmp_path))
    assert (found and found[1:]) == expected


def test_a_fifo_is_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    assert place.read_regular(str(tmp_path / "f"), 10) == b""
    assert place.read_regular(str(tmp_path / "none"), 10) == b""
