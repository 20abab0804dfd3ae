"""Every verb against a real engine and a real lab: names, exit codes and JSON fields are a contract for scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.home import Home
from tests.cli.conftest import Answer, Verb, eventually


def words(text: str) -> set[str]:
    return set(text.split())


OFFER = words(
    "id provider gpu gpu_count vram_gb kind usd_per_hour all_in_usd_per_hour region country reliability value "
    "observed_at age_s source"
)
WORKSPACE = words(
    "name state epoch active primary standby lag_s at_risk last_snapshot_age_s usd_per_hour policy endpoint services "
    "protected"
)
MACHINE = words(
    "id provider provider_id workspace role state gpu gpu_count region zone usd_per_hour rented_at gpus reading_age_s"
)
ENDPOINT = words("host port user identity_file known_hosts alias")
LAB_MACHINE = words("id provider state isolation address ssh_host ssh_port root workspace_root init_pid pid")
GPU = words("utilization_pct memory_used_mib memory_total_mib temperature_c power_w")
PATIENCE_S = 60.0


@pytest.fixture
def shell(lab_home: Home) -> Any:
    """Runs a verb as a process of its own: `ssh` becomes OpenSSH's client."""

    def call(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "core.cli", "--home", str(lab_home.state), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more)

    return call


def test_engine_status(lab_verb: Verb, lab_home: Home) -> None:
    found = lab_verb("engine", "status", "--json").json
    assert set(found) >= {"state", "pid", "version", "uptime_s", "socket", "operations_open"}
    assert found["state"] == "running"
    assert found["socket"] == str(lab_home.socket)
    assert lab_verb("engine", "start", "--json").json["pid"] == found["pid"]


def test_lab_status_and_faults(lab_verb: Verb, workspace: str) -> None:
    found = lab_verb("lab", "status", "--json").json
    assert set(found) >= {"state", "token", "endpoints", "machines"}
    assert found["endpoints"]["vast"].startswith("http://127.0.0.1:")
    assert all(set(m) >= LAB_MACHINE for m in found["machines"])
    assert found["token"] not in lab_verb("lab", "status").out
    listed = lab_verb("lab", "fault", "--list", "--json").json
    assert {"kill", "heal", "api-500"} <= {f["name"] for f in listed["faults"]}
    struck = lab_verb("lab", "fault", "latency", "--machine", found["machines"][0]["id"], "--for", "1s", "--json")
    assert struck.status == 0
    assert set(struck.json) >= {"fault", "target", "started_at"}
    assert lab_verb("lab", "fault", "nosuch", "--json").status != 0


def test_offers(lab_verb: Verb) -> None:
    found = eventually(lambda: _offers(lab_verb("offers", "--gpu", "4090", "--json")))
    assert all(set(o) >= OFFER for o in found["offers"])
    prices = [o["usd_per_hour"] / o["gpu_count"] for o in found["offers"]]
    assert prices == sorted(prices)
    assert set(found["providers"][0]) >= {"provider", "ok", "error", "age_s", "rows_skipped"}
    few = lab_verb("offers", "--limit", "2", "--kind", "on-demand", "--json").json["offers"]
    assert len(few) == 2
    assert {o["kind"] for o in few} == {"on-demand"}
    assert lab_verb("offers", "--gpu", "no such gpu", "--json").json["offers"] == []
    assert "RTX 4090" in lab_verb("offers", "--gpu", "4090").out


def _offers(answer: Answer) -> Any:
    assert answer.status == 0, answer.err
    return answer.json if answer.json["offers"] else None


def test_offers_watch_says_it_again_when_it_changes(shell: Any, lab_home: Home) -> None:
    command = [sys.executable, "-m", "core.cli", "--home", str(lab_home.state), "offers", "watch", "--gpu", "4090"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert '"offers":[' in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 130


def test_a_dry_run_rents_nothing_and_says_whether_it_would_be_refused(lab_verb: Verb) -> None:
    before = {m["id"] for m in lab_verb("machines", "list", "--all", "--json").json["machines"]}
    plan = lab_verb("up", "later", "--gpu", "4090", "--for", "8h", "--dry-run", "--json")
    assert plan.status == 0
    assert set(plan.json) >= {"offers", "all_in_usd_per_hour", "usd_per_day", "usd_for_duration", "refused"}
    assert plan.json["refused"] is None
    refused = lab_verb("up", "later", "--gpu", "4090", "--count", "7", "--dry-run", "--json")
    assert refused.status == 4
    assert refused.json["refused"]
    assert lab_verb("up", "Not A Name", "--gpu", "4090", "--dry-run").status == 4
    assert {m["id"] for m in lab_verb("machines", "list", "--all", "--json").json["machines"]} == before


def test_spending_and_destroying_are_refused_without_a_yes(lab_verb: Verb, workspace: str) -> None:
    for words in (["up", "other", "--gpu", "4090"], ["down", workspace], ["down", "--all"], ["lab", "down"]):
        answer = lab_verb(*words, "--json")
        assert answer.status == 4, words
        assert answer.json["error"]["kind"] == "IntentRefused"
    assert lab_verb("show", workspace, "--json").json["state"] == "running"


def test_workspaces(lab_verb: Verb, workspace: str) -> None:
    (listed,) = [w for w in lab_verb("list", "--json").json["workspaces"] if w["name"] == workspace]
    shown = lab_verb("show", workspace, "--json").json
    assert set(listed) >= WORKSPACE
    assert set(shown) >= WORKSPACE
    assert shown["state"] == "running"
    assert shown["protected"] is False
    assert set(shown["primary"]) >= MACHINE
    assert set(shown["endpoint"]) >= ENDPOINT
    assert Path(shown["endpoint"]["identity_file"]).exists()
    assert lab_verb("show", "nosuch", "--json").status == 3
    assert workspace in lab_verb("list").out
    assert "4090" in lab_verb("show", workspace).out


def test_status(lab_verb: Verb, workspace: str) -> None:
    found = lab_verb("status", "--json").json
    assert set(found) >= {"burn_usd_per_hour", "workspaces", "at_risk", "alerts"}
    assert found["burn_usd_per_hour"] > 0
    assert workspace in {r["workspace"] for r in found["at_risk"]}
    assert "lab" in lab_verb("status").out


def test_machines(lab_verb: Verb, workspace: str) -> None:
    def reading() -> Any:
        machines = lab_verb("machines", "list", "--json").json["machines"]
        (found,) = [m for m in machines if m["workspace"] == workspace]
        return found if found["gpus"] else None

    found = eventually(reading)
    assert set(found) >= MACHINE
    assert set(found["gpus"][0]) == GPU
    assert found["simulated"] is True
    shown = lab_verb("machines", "show", found["id"], "--json").json
    assert shown["id"] == found["id"]
    assert "processes" in shown
    assert lab_verb("machines", "show", "m-nosuch").status == 3
    assert lab_verb("machines", "destroy", "m-nosuch", "--yes").status == 3
    assert lab_verb("machines", "adopt", "vast:1", "--yes").status == 3
    assert lab_verb("machines", "destroy", found["id"]).status == 4
    assert found["id"] in lab_verb("machines", "list").out


def test_hosts_are_remembered_and_blocked(lab_verb: Verb, workspace: str) -> None:
    host = lab_verb("machines", "history", "--json").json["hosts"][0]
    assert set(host) >= {"provider", "host_id", "rented", "ready", "refused", "boot_s", "blocked"}
    assert lab_verb("hosts", "block", host["id"], "--reason", "slow").status == 0
    (blocked,) = lab_verb("hosts", "list", "--blocked", "--json").json["hosts"]
    assert (blocked["id"], blocked["blocked_reason"]) == (host["id"], "slow")
    assert lab_verb("hosts", "unblock", host["id"], "--json").json["blocked"] is False
    assert lab_verb("hosts", "list", "--blocked", "--json").json["hosts"] == []
    assert lab_verb("hosts", "block", "nonsense").status == 2


def test_ssh_passes_words_and_status_on(shell: Any, workspace: str) -> None:
    done = shell("ssh", workspace, "--", "echo", "$((20+1))", ";", "pwd")
    assert (done.returncode, done.stdout.split()[0]) == (0, "21")
    assert shell("ssh", workspace, "--", "exit 7").returncode == 7
    assert shell("ssh", workspace, "--", "kill -9 $$").returncode != 0
    fed = subprocess.run(
        [sys.executable, "-m", "core.cli", *_home(shell), "ssh", workspace, "--", "cat"],
        input=b"\x00\xff" * 5000,
        capture_output=True,
        check=True,
    )
    assert fed.stdout == b"\x00\xff" * 5000
    gone = shell("ssh", "nosuch", "--", "true")
    assert gone.returncode == 255
    assert gone.stderr.startswith("error: ")
    document = shell("ssh", workspace, "--json")
    assert '"command":[' in document.stdout


def _home(shell: Any) -> list[str]:
    return [str(w) for w in shell("ssh", "x").args[3:5]]


def test_push_and_pull(shell: Any, lab_verb: Verb, workspace: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a b.txt").write_text("hello")
    (source / "big.bin").write_bytes(os.urandom(2_000_000))
    pushed = lab_verb("push", workspace, str(source), "data", "--json")
    assert pushed.status == 0, pushed.err
    assert pushed.json["files"] == 2
    listed = shell("ssh", workspace, "--", "find data -type f | sort")
    assert listed.stdout.splitlines() == ["data/big.bin", "data/sub/a b.txt"]
    again = lab_verb("push", workspace, f"{source}/", "data", "--json").json
    assert (again["same"], again["bytes"]) == (2, 0)
    pulled = lab_verb("pull", workspace, "data", str(tmp_path / "back"), "--json")
    assert pulled.status == 0
    assert (tmp_path / "back" / "big.bin").read_bytes() == (source / "big.bin").read_bytes()
    assert (tmp_path / "back" / "sub" / "a b.txt").read_text() == "hello"
    missing = lab_verb("pull", workspace, "nothing", str(tmp_path), "--json")
    assert missing.status == 1
    assert "cannot be read" in missing.json["error"]["message"]
    assert lab_verb("push", workspace, str(tmp_path / "nothing")).status == 2


def test_budget(lab_verb: Verb, workspace: str) -> None:
    before = lab_verb("budget", "show", "--json").json
    assert set(before) >= {"usd_per_hour", "usd_per_month", "machines", "spent"}
    assert before["spent"]["machines"] >= 1
    try:
        low = lab_verb("budget", "set", "--machines", "1", "--json")
        assert low.json["machines"] == 1
        assert low.json["usd_per_hour"] == before["usd_per_hour"]
        refused = lab_verb("up", "more", "--gpu", "4090", "--yes", "--json")
        assert refused.status == 4
        assert refused.json["error"]["kind"] == "IntentRefused"
        assert "limit is 1" in refused.json["error"]["message"]
    finally:
        assert lab_verb("budget", "set", "--machines", str(before["machines"])).status == 0


def test_operations(lab_verb: Verb, workspace: str) -> None:
    found = lab_verb("operations", "list", "--json").json["operations"]
    newest_first = [o["started_at"] for o in found]
    assert newest_first == sorted(newest_first, reverse=True)
    (rent,) = [o for o in found if o["workspace"] == workspace and o["kind"] == "rent"]
    shown = lab_verb("operations", "show", rent["id"], "--watch", "--json")
    assert shown.status == 0
    assert set(shown.json) >= {"id", "kind", "workspace", "state", "steps"}
    assert set(shown.json["steps"][0]) >= {"name", "state", "attempt", "started_at", "took_s", "detail"}
    assert shown.json["state"] == "done"
    assert lab_verb("operations", "show", "up-nosuch").status == 3
    assert "ready" in lab_verb("operations", "show", rent["id"]).out


def test_events(lab_verb: Verb, workspace: str, lab_home: Home) -> None:
    found = lab_verb("events", "--since", "1h", "--workspace", workspace, "--json").lines
    assert all(set(f) >= {"seq", "at", "kind", "workspace", "machine", "actor", "detail"} for f in found)
    assert {f["workspace"] for f in found} == {workspace}
    numbers = [f["seq"] for f in found]
    assert numbers == sorted(set(numbers))
    assert lab_verb("events", "--since", "2000-01-01T00:00:00Z", "--json").lines[0]["seq"] == 1
    assert lab_verb("events", "--since", "yesterday").status == 2
    command = [sys.executable, "-m", "core.cli", "--home", str(lab_home.state), "events", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        seen = following.stdout.readline()
        assert lab_verb("budget", "set", "--usd-per-month", "199").status == 0
        while '"kind":"budget_set"' not in seen:
            seen = following.stdout.readline()
            assert seen
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE_S) == 130


def test_the_shell_completes_names_and_settings(lab_home: Home, workspace: str) -> None:
    def completed(*before: str) -> str:
        words = ["understudy", "--home", str(lab_home.state), *before]
        told = {
            "_UNDERSTUDY_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        code = "from core.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **told}, capture_output=True, text=True, check=False
        )
        return done.stdout

    assert workspace in completed("ssh", workspace[:4])
    assert "rent.disk_gb" in completed("config", "get", "rent.d")
    assert "machines" in completed("mach")


def test_doctor(lab_verb: Verb) -> None:
    answer = lab_verb("doctor", "--json")
    found = answer.json
    assert answer.status == (0 if found["ok"] else 1)
    assert all(set(c) >= {"name", "ok", "detail", "hint"} for c in found["checks"])
    names = [c["name"] for c in found["checks"]]
    assert len(names) == len(set(names))
