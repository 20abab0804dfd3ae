"""The front is killed, ended and started again: machines, faults, money, token and ports are as they were, and nothing
is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.lab.__main__ import options_of
from tests.lab.running_lab import RunningLab, wait_until


class DetachedLab(RunningLab):
    """A lab whose machines outlive its front, as `lab up` starts it."""

    @property
    def parent_option(self) -> list[str]:
        return []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RunningLab]:
    running = DetachedLab(tmp_path / "h", "--pacing", "off", "--boot-s", "0.3").start()
    yield running
    if running.process is not None and running.process.poll() is not None:
        running.start()
    running.close()


def alive(pid: int) -> bool:
    """Not gone and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_of(home: Path) -> list[int]:
    """Every process that names this home in its command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if str(home).encode() in line:
                found.append(int(folder.name))
    return found


def test_a_killed_front_finds_its_machines_again(lab: RunningLab) -> None:
    made = lab.rent(label="keep").json()["new_contract"]
    lab.wait_running(made)
    lab.fault("drop", machine=str(made), for_s=3600)
    before, about = lab.machine(made), dict(lab.about)
    lab.kill()
    assert alive(before["pid"])
    lab.start()
    after = lab.machine(made)
    assert (after["pid"], after["ssh_port"], after["proxy_port"]) == (
        before["pid"],
        before["ssh_port"],
        before["proxy_port"],
    )
    assert (lab.about["token"], lab.about["endpoints"]) == (about["token"], about["endpoints"])
    assert [each["fault"] for each in lab.control("GET", "/lab/faults")["active"]] == ["drop"]
    assert (lab.row(made) or {})["label"] == "keep"


def test_a_machine_that_died_meanwhile_is_reported(lab: RunningLab) -> None:
    made = lab.rent().json()["new_contract"]
    lab.wait_running(made)
    machine = lab.machine(made)
    lab.kill()
    os.kill(machine["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(machine["init_pid"]))
    lab.start()
    assert (lab.row(made) or {})["actual_status"] == "exited"
    assert lab.machine(made)["state"] == "gone"


def test_a_boot_and_a_destroy_under_way_are_finished(lab: RunningLab) -> None:
    first = lab.rent().json()["new_contract"]
    lab.wait_running(first)
    root = Path(lab.machine(first)["root"])
    second = lab.rent().json()["new_contract"]
    assert lab.vast("DELETE", f"/api/v0/instances/{first}/", {}).json()["success"]
    lab.kill()
    lab.start()
    assert lab.row(first) is None
    wait_until(lambda: not root.exists())
    lab.wait_running(second)


def test_a_fault_that_should_have_ended_meanwhile_has(lab: RunningLab) -> None:
    lab.fault("api-500", for_s=0.01)
    lab.kill()
    lab.start()
    wait_until(lambda: lab.control("GET", "/lab/faults")["active"] == [])


def test_an_orderly_end_leaves_nothing_and_the_next_start_brings_machines_back(lab: RunningLab) -> None:
    made = lab.rent().json()["new_contract"]
    row = lab.wait_running(made)
    machine = lab.machine(made)
    marker = Path(machine["workspace_root"]) / "kept"
    marker.write_text("kept")
    lab.control("POST", "/lab/stop")
    assert lab.process is not None
    assert lab.process.wait(60) == 0
    assert not (lab.home / "lab" / "lab.json").exists()
    assert not alive(machine["pid"])
    assert processes_of(lab.home) == []
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert f":{row['ports']['22/tcp'][0]['HostPort']} " not in listening
    lab.start()
    assert (lab.row(made) or {})["actual_status"] in ("rebooting", "running")
    again = lab.wait_running(made)
    assert again["ports"] == row["ports"]
    assert marker.read_text() == "kept"


def test_with_parent_the_lab_ends_with_who_started_it(tmp_path: Path) -> None:
    home = tmp_path / "h"
    command = [sys.executable, "-m", "core.lab", "up", "--home", str(home), "--with-parent", "--no-machines"]
    shell = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *command], cwd=Path(__file__).parents[2])
    wait_until((home / "lab" / "lab.json").exists)
    shell.kill()
    shell.wait()
    wait_until(lambda: processes_of(home) == [])
    assert not (home / "lab" / "lab.json").exists()


def test_one_lab_per_home(lab: RunningLab) -> None:
    command = [sys.executable, "-m", "core.lab", "up", "--home", str(lab.home), "--no-machines"]
    second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert second.returncode == 4
    assert "runs in" in second.stderr
    assert lab.control("GET", "/lab/status")["state"] == "running"


def test_files_are_the_operators_alone(lab: RunningLab) -> None:
    folder = lab.home / "lab"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("lab.json", "identity.json", "world.json"):
        wait_until((folder / name).exists)  # the world is written a moment after the lab answers
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_money_stands_still_while_the_lab_is_down_in_good_order(tmp_path: Path) -> None:
    lab = RunningLab(tmp_path / "h", "--no-machines", "--pacing", "off", "--boot-s", "0.1", "--speed", "1000").start()
    try:
        made = lab.rent().json()["new_contract"]
        lab.wait_running(made)
        lab.control("POST", "/lab/stop")
        assert lab.process is not None
        lab.process.wait(60)
        world = (lab.home / "lab" / "world.json").read_text()
        lab.start()
        assert '"paused":true' in world
        assert lab.machine(made)["state"] == "running"
        assert lab.control("GET", "/lab/status")["credit_usd"] > 20
    finally:
        lab.close()


def test_the_command_lines_options(tmp_path: Path) -> None:
    options = options_of(
        ["up", "--home", str(tmp_path), "--seed", "5", "--speed", "2", "--pacing", "off", "--boot-s", "3"]
    )
    assert (options.seed, options.speed, options.pacing, options.boot_s, options.machines) == (5, 2.0, False, 3.0, True)
    with pytest.raises(SystemExit):
        options_of(["up"])


def test_killed_again_and_again_no_machine_is_lost_or_left(lab: RunningLab) -> None:
    kept: list[int] = []
    gone: list[int] = []
    for round_number in range(6):
        kept += [lab.rent().json()["new_contract"] for _ in range(2)]
        doomed = kept.pop(0)
        if round_number % 2:
            lab.wait_running(doomed)
        assert lab.vast("DELETE", f"/api/v0/instances/{doomed}/", {}).json()["success"]
        gone.append(doomed)
        lab.kill()
        lab.start()
    for each in kept:
        lab.wait_running(each)
    folders = lab.home / "lab" / "machines"
    wait_until(lambda: {folder.name for folder in folders.iterdir()} == {str(each) for each in kept})
    assert all(alive(lab.machine(each)["pid"]) for each in kept)
    truth = {each["id"]: each["exists"] for each in lab.control("GET", "/lab/truth")["contracts"]}
    assert truth == {**dict.fromkeys(kept, True), **dict.fromkeys(gone, False)}
