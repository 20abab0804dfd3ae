"""Faults against the real thing: real machines, OpenSSH, plain HTTP; each is seen from outside, then healed."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.lab.faults import DESCRIPTIONS
from tests.lab.running_lab import RunningLab, wait_until

BOOT_S = "0.3"


class Shell:
    """The OpenSSH client with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key"
        self.known_hosts = folder / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    def run(self, row: dict[str, object], command: str, *, limit_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        ports = row["ports"]
        assert isinstance(ports, dict)
        port = ports["22/tcp"][0]["HostPort"]
        options = ["-F", "none", "-i", str(self.key), "-p", port, "-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]
        options += ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=accept-new"]
        options += ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"]
        return subprocess.run(
            ["ssh", *options, f"root@{row['public_ipaddr']}", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    running = RunningLab(tmp_path_factory.mktemp("f") / "h", "--pacing", "off", "--boot-s", BOOT_S).start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, lab: RunningLab) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("k"))
    lab.vast("POST", "/api/v0/ssh/", {"ssh_key": shell.key.with_suffix(".pub").read_text()})
    return shell


@pytest.fixture
def machine(lab: RunningLab, shell: Shell) -> Iterator[int]:
    made: int = lab.rent(lab.offers(type="bid")[0]["id"], price=2.0).json()["new_contract"]
    lab.wait_running(made)
    yield made
    lab.control("POST", "/lab/heal", {})
    lab.vast("DELETE", f"/api/v0/instances/{made}/", {})


def says(lab: RunningLab, shell: Shell, machine: int, command: str) -> subprocess.CompletedProcess[str]:
    return shell.run(lab.wait_running(machine), command)


def test_every_fault_is_described_and_listed(lab: RunningLab) -> None:
    listed = lab.control("GET", "/lab/faults")
    assert {each["name"] for each in listed["faults"]} == set(DESCRIPTIONS)
    assert all(each["what"] for each in listed["faults"])
    assert listed["active"] == []


def test_refusals_are_sentences(lab: RunningLab, machine: int) -> None:
    for body in (
        {"name": "meteor"},
        {"name": "kill", "machine": "999"},
        {"name": "kill", "machine": "x"},
        {"name": "api-500", "provider": "moon"},
        {"name": "service-kill", "machine": str(machine)},
    ):
        answer = lab.fault(**body)  # type: ignore[arg-type]
        assert answer.status_code == 409, body
        assert answer.json()["error"]["message"].endswith((".", "them all.")), answer.text


def test_kill_takes_the_machine_and_heal_boots_it_with_its_files(lab: RunningLab, shell: Shell, machine: int) -> None:
    before = lab.machine(machine)
    assert (
        says(lab, shell, machine, "echo kept > $WORKSPACE/f; setsid -f sleep 600 >/dev/null 2>&1 </dev/null").returncode
        == 0
    )
    assert lab.fault("kill", machine=str(machine)).status_code == 200
    assert lab.machine(machine)["state"] == "gone"
    row = lab.row(machine)
    assert row is not None
    assert (row["actual_status"], row["intended_status"]) == ("exited", "running")
    wait_until(lambda: not Path(f"/proc/{before['init_pid']}/stat").exists())
    assert lab.fault("heal", machine=str(machine)).status_code == 200
    assert says(lab, shell, machine, "cat $WORKSPACE/f").stdout == "kept\n"


def test_an_outside_kill_of_the_pid_is_noticed(lab: RunningLab, machine: int) -> None:
    subprocess.run(["kill", "-9", str(lab.machine(machine)["pid"])], check=True)
    wait_until(lambda: (lab.row(machine) or {})["actual_status"] == "exited")


def test_power_off_is_silence(lab: RunningLab, shell: Shell, machine: int) -> None:
    row = lab.wait_running(machine)
    assert lab.fault("kill", machine=str(machine), options={"power_off": "yes"}).status_code == 200
    assert (lab.row(machine) or {})["actual_status"] == "running"
    assert lab.machine(machine)["state"] == "gone"
    answer = shell.run(row, "true")
    assert answer.returncode == 255
    assert "refused" not in answer.stderr
    wait_until(lambda: (lab.row(machine) or {})["actual_status"] == "unknown")


def test_hang_answers_nobody_until_healed(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("hang", machine=str(machine))
    assert lab.machine(machine)["state"] == "frozen"
    assert says(lab, shell, machine, "true").returncode == 255
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "echo yes").stdout == "yes\n"


@pytest.mark.parametrize("name", ["drop", "reset", "link-down"])
def test_a_severed_network_and_its_end(lab: RunningLab, shell: Shell, machine: int, name: str) -> None:
    lab.fault(name, machine=str(machine))
    answer = says(lab, shell, machine, "true")
    assert answer.returncode == 255
    assert ("refused" in answer.stderr) == (name == "reset")
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "echo yes").stdout == "yes\n"


def test_a_fault_with_a_duration_ends_by_itself(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("drop", machine=str(machine), for_s=0.2)
    wait_until(lambda: lab.control("GET", "/lab/faults")["active"] == [])
    assert says(lab, shell, machine, "echo yes").stdout == "yes\n"


def test_network_faults_add_up(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("latency", machine=str(machine), options={"latency_s": 0.05})
    lab.fault("bandwidth", machine=str(machine), options={"bytes_per_s": 5_000_000})
    assert says(lab, shell, machine, "echo slow").stdout == "slow\n"
    assert {each["fault"] for each in lab.control("GET", "/lab/faults")["active"]} == {"latency", "bandwidth"}


def test_gpu_faults(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("gpu-mismatch", machine=str(machine))
    answer = says(lab, shell, machine, "nvidia-smi")
    assert answer.returncode == 18
    assert "mismatch" in answer.stdout
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "nvidia-smi -L").returncode == 0
    lab.fault("gpu-lost", machine=str(machine))
    assert says(lab, shell, machine, "nvidia-smi").returncode == 15


def test_service_hang_and_kill_meet_what_runs_on_the_gpu(lab: RunningLab, shell: Shell, machine: int) -> None:
    begin = "LAB_VRAM_MIB=512 setsid -f python3 -c 'import time; time.sleep(600)' >/dev/null 2>&1 </dev/null"
    assert says(lab, shell, machine, begin).returncode == 0
    query = "nvidia-smi --query-compute-apps=pid --format=csv,noheader"

    def pids() -> list[str]:
        return says(lab, shell, machine, query).stdout.split()

    pid = wait_until(pids).pop()
    assert lab.fault("service-hang", machine=str(machine)).status_code == 200
    assert says(lab, shell, machine, f"grep State /proc/{pid}/status").stdout.split()[1] == "T"
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, f"grep State /proc/{pid}/status").stdout.split()[1] in "SR"
    assert lab.fault("service-kill", machine=str(machine)).status_code == 200
    assert says(lab, shell, machine, f"kill -0 {pid}").returncode != 0


def test_wrong_host_key(lab: RunningLab, shell: Shell, machine: int) -> None:
    assert says(lab, shell, machine, "true").returncode == 0
    lab.fault("wrong-host-key", machine=str(machine))
    answer = says(lab, shell, machine, "true")
    assert answer.returncode == 255
    assert "IDENTIFICATION HAS CHANGED" in answer.stderr or "verification failed" in answer.stderr
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "echo yes").stdout == "yes\n"


def test_flood_on_the_agent_channel_only(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("flood", machine=str(machine))
    assert says(lab, shell, machine, "echo calm").stdout == "calm\n"
    row = lab.wait_running(machine)
    with contextlib.ExitStack() as stack:
        port = row["ports"]["22/tcp"][0]["HostPort"]
        command = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(shell.key),
            "-p",
            port,
            "-o",
            f"UserKnownHostsFile={shell.known_hosts}",
        ]
        client = stack.enter_context(
            subprocess.Popen(
                [*command, "root@127.0.0.1", "sleep 600 # agent"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        )
        stack.callback(client.kill)
        assert client.stdout is not None
        assert len(client.stdout.read(5_000_000)) == 5_000_000


def test_disk_full(lab: RunningLab, shell: Shell, machine: int) -> None:
    answer = lab.fault("disk-full", machine=str(machine))
    if lab.about["isolation"] != "ns":
        assert answer.status_code == 409
        return
    assert answer.status_code == 200, answer.text
    full = says(lab, shell, machine, "head -c 100000 /dev/zero > $WORKSPACE/big")
    assert "No space left" in full.stderr
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "head -c 100000 /dev/zero > $WORKSPACE/big").returncode == 0


def test_slow_disk_is_slow_or_refused(lab: RunningLab, shell: Shell, machine: int) -> None:
    write = "t=$(date +%s%N); dd if=/dev/zero of=$WORKSPACE/f bs=256k count=12 conv=fsync 2>/dev/null;"
    write += " echo $(( ($(date +%s%N) - t) / 1000000 ))"
    answer = lab.fault("slow-disk", machine=str(machine), options={"bytes_per_s": 1_000_000})
    if answer.status_code == 409:
        assert "cannot be made real here" in answer.json()["error"]["message"]
        return
    assert int(says(lab, shell, machine, write).stdout) > 1000
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "echo yes").stdout == "yes\n"


def test_hostile_text_in_rows_and_in_the_machine(lab: RunningLab, shell: Shell, machine: int) -> None:
    assert lab.fault("hostile-text", machine=str(machine)).status_code == 200
    assert "\x1b" in says(lab, shell, machine, "ps -eo args; ls $WORKSPACE | cat").stdout
    assert any(mark in json.dumps(lab.row(machine), ensure_ascii=False) for mark in ("\\u001b", "\\u009b", "\x9b"))
    lab.control("POST", "/lab/heal", {})
    assert lab.fault("hostile-text").status_code == 200
    assert "\\u202e" in json.dumps(lab.offers())


def test_outbid_ends_with_its_fault(lab: RunningLab, shell: Shell, machine: int) -> None:
    lab.fault("outbid", machine=str(machine))
    row = lab.row(machine)
    assert row is not None
    assert row["intended_status"] == "stopped"
    lab.fault("heal", machine=str(machine))
    assert says(lab, shell, machine, "echo back").stdout == "back\n"


def test_preemption_with_notice_and_without(lab: RunningLab, machine: int) -> None:
    lab.fault("preempt", machine=str(machine), options={"notice_s": 0.3})
    assert lab.machine(machine)["notice_until"]
    wait_until(lambda: (lab.row(machine) or {})["actual_status"] == "exited")
    other = lab.rent(lab.offers(type="bid")[0]["id"], price=2.0).json()["new_contract"]
    lab.wait_running(other)
    lab.fault("preempt-silent", machine=str(other))
    assert (lab.row(other) or {})["intended_status"] == "stopped"
    lab.vast("DELETE", f"/api/v0/instances/{other}/", {})


@pytest.mark.parametrize("what", ["gpu-count", "vram", "gpu-model", "driver", "cuda", "disk-space", "network-speed"])
def test_every_lie_is_real_on_the_machine(lab: RunningLab, shell: Shell, what: str) -> None:
    assert lab.fault("lying-host", options={"what": what}).status_code == 200
    offer = lab.offers(num_gpus={"eq": 2})[0]
    made = lab.rent(offer["id"]).json()["new_contract"]
    lab.control("POST", "/lab/heal", {})
    try:
        query = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits;"
        query += " nvidia-smi; df -BM $WORKSPACE"
        text = says(lab, shell, made, query).stdout
        cards = [line.split(", ") for line in text.splitlines()[:2]]
        honest = {
            "gpu-count": len([c for c in cards if len(c) == 3]) == 2,
            "vram": int(cards[0][1]) == offer["gpu_ram"],
            "gpu-model": offer["gpu_name"].rsplit(" ")[-1] in cards[0][0],
            "driver": cards[0][2] == offer["driver_version"],
            "cuda": f"CUDA Version: {offer['cuda_max_good']}" in text,
            "disk-space": int(text.splitlines()[-1].split()[1].rstrip("M")) > 10_000,
        }
        if lab.about["isolation"] != "ns":
            honest.pop("disk-space")
        assert {name for name, true in honest.items() if not true} == {what} & set(honest)
        if what == "network-speed":
            assert lab.machine(made)["lie"] == "network-speed"
    finally:
        lab.vast("DELETE", f"/api/v0/instances/{made}/", {})


# -- the provider ----------------------------------------------------------------------------------------------


def test_api_errors_strike_and_end(lab: RunningLab) -> None:
    lab.fault("api-500", options={"endpoint": "user", "count": 1})
    assert lab.vast("GET", "/api/v0/users/current/").status_code == 500
    assert lab.vast("GET", "/api/v0/users/current/").status_code == 200
    lab.fault("api-429", options={"endpoint": "list"})
    assert lab.vast("GET", "/api/v1/instances/").status_code == 429
    assert lab.vast("GET", "/api/v0/users/current/").status_code == 200
    lab.control("POST", "/lab/heal", {})
    lab.fault("html-body", options={"status": 502})
    answer = lab.vast("GET", "/api/v1/instances/")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
    lab.control("POST", "/lab/heal", {})
    lab.fault("bad-key")
    assert lab.vast("GET", "/api/v1/instances/").status_code == 401
    assert lab.vast("POST", "/api/v0/bundles/", {}).status_code == 404
    lab.control("POST", "/lab/heal", {})
    lab.fault("quota")
    answer = lab.vast("POST", "/api/v0/bundles/", {})
    assert answer.json() == {"error": "search_quota_exceeded"}
    assert int(answer.headers["x-ratelimit-reset"]) % 86_400 == 0
    assert lab.control("POST", "/lab/heal", {}) == {"ended": 1}


def test_a_timeout_breaks_the_connection(lab: RunningLab) -> None:
    lab.fault("api-timeout", options={"hold_s": 0.1})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        lab.vast("GET", "/api/v0/users/current/")
    lab.control("POST", "/lab/heal", {})


def test_created_but_error_leaves_a_contract(lab: RunningLab) -> None:
    lab.fault("created-but-error", options={"count": 1})
    assert lab.rent(label="lost").status_code == 500
    lab.fault("created-but-error", options={"answer": "break", "count": 1})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        lab.rent(label="lost")
    truth = [each for each in lab.control("GET", "/lab/truth")["contracts"] if each["label"] == "lost"]
    assert [each["exists"] for each in truth] == [True, True]
    assert [each["answered_at"] for each in truth] == [None, None]
    for each in truth:
        assert lab.vast("DELETE", f"/api/v0/instances/{each['id']}/", {}).json()["success"]


def test_stockout_lag_rows_credit_and_clock(lab: RunningLab) -> None:
    offer = lab.offers()[0]
    lab.fault("stockout", zone=offer["country_code"])
    assert offer["country_code"] not in {row["country_code"] for row in lab.offers()}
    assert lab.rent(offer["id"]).status_code in (404, 410)
    lab.control("POST", "/lab/heal", {})
    lab.fault("list-lag", options={"lag_s": 3600})
    made = lab.rent().json()["new_contract"]
    assert lab.row(made) is None
    lab.control("POST", "/lab/heal", {})
    assert lab.row(made) is not None
    lab.vast("DELETE", f"/api/v0/instances/{made}/", {})
    lab.fault("malformed-row", options={"rows": 3})
    assert [row["dph_total"] for row in lab.offers()[:3]].count("not a number") == 1
    lab.control("POST", "/lab/heal", {})
    credit = lab.vast("GET", "/api/v0/users/current/").json()["credit"]
    lab.fault("low-credit", options={"usd": 0.0})
    assert lab.rent().json()["error"] == "insufficient_credit"
    lab.control("POST", "/lab/heal", {})
    assert lab.vast("GET", "/api/v0/users/current/").json()["credit"] == pytest.approx(credit, abs=0.01)
    before = lab.offers()[0]["start_date"]
    lab.fault("clock-skew", options={"seconds": 5000})
    assert lab.offers()[0]["start_date"] - before > 4000
    lab.control("POST", "/lab/heal", {})


def test_a_late_answer_is_still_the_answer(lab: RunningLab) -> None:
    lab.fault("created-but-error", options={"answer": "late", "hold_s": 0.1, "count": 1})
    made = lab.rent(label="late").json()["new_contract"]
    truth = [each for each in lab.control("GET", "/lab/truth")["contracts"] if each["id"] == made]
    assert truth[0]["answered_at"] is not None
    lab.vast("DELETE", f"/api/v0/instances/{made}/", {})


def test_heal_reaches_as_far_as_it_is_aimed(lab: RunningLab, machine: int) -> None:
    lab.fault("drop", machine=str(machine))
    lab.fault("api-500", options={"endpoint": "user"})
    lab.fault("stockout", zone="SE")
    assert lab.fault("heal", provider="vast").status_code == 200
    assert [each["fault"] for each in lab.control("GET", "/lab/faults")["active"]] == ["drop"]
    lab.fault("kill", machine=str(machine))
    assert lab.fault("heal").status_code == 200
    assert lab.control("GET", "/lab/faults")["active"] == []
    lab.wait_running(machine)


def test_stuck_boot(lab: RunningLab) -> None:
    lab.fault("stuck-boot")
    made = lab.rent().json()["new_contract"]
    lab.control("POST", "/lab/heal", {})
    other = lab.rent().json()["new_contract"]
    lab.wait_running(other)
    assert (lab.row(made) or {})["actual_status"] == "loading"
    for each in (made, other):
        lab.vast("DELETE", f"/api/v0/instances/{each}/", {})
