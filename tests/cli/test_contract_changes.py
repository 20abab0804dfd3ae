"""Verbs that change what is rented, against a real engine and a real lab."""

from __future__ import annotations

from typing import Any

import httpx

from tests.cli.conftest import Verb, eventually


def test_up_and_down_without_waiting(lab_verb: Verb) -> None:
    asked = lab_verb("up", "brief", "--gpu", "4090", "--yes", "--no-wait", "--json")
    assert asked.status == 0
    assert set(asked.json) == {"operation"}
    ended = lab_verb("operations", "show", asked.json["operation"], "--watch", "--json")
    assert ended.json["state"] == "done"
    again = lab_verb("up", "brief", "--gpu", "4090", "--yes", "--json")
    assert again.status == 4
    down = lab_verb("down", "brief", "--yes", "--json")
    assert down.status == 0
    assert set(down.json) == {"operation", "machines"}
    assert {m["state"] for m in down.json["machines"]} <= {"destroying", "destroyed"}
    assert lab_verb("show", "brief", "--json").json["state"] == "retired"
    assert lab_verb("down", "nosuch", "--yes").status == 3

    def gone() -> bool:
        machines = lab_verb("machines", "list", "--all", "--json").json["machines"]
        return {m["state"] for m in machines if m["workspace"] == "brief"} == {"destroyed"}

    eventually(gone)
    assert lab_verb("down", "brief", "--yes", "--json").json["machines"] == []


def test_no_offer_is_one_failure(lab_verb: Verb) -> None:
    answer = lab_verb("up", "dear", "--gpu", "4090", "--max-usd-per-hour", "0.0001", "--yes", "--json")
    assert answer.status in (1, 4)
    assert answer.json["error"]["message"]


def test_what_was_under_way_can_be_cancelled(lab_verb: Verb) -> None:
    asked = lab_verb("up", "fleeting", "--gpu", "4090", "--yes", "--no-wait", "--json").json["operation"]
    cancelled = lab_verb("operations", "cancel", asked, "--json")
    assert cancelled.status == 0, cancelled.err
    shown = lab_verb("operations", "show", asked, "--watch", "--json")
    assert shown.status == 1
    assert '"state":"cancelled"' in shown.out
    lab_verb("down", "fleeting", "--yes")


def test_a_machine_is_stopped_started_and_destroyed(lab_verb: Verb) -> None:
    assert lab_verb("up", "machine", "--gpu", "4090", "--yes").status == 0
    (one,) = [m for m in lab_verb("machines", "list", "--json").json["machines"] if m["workspace"] == "machine"]

    def state() -> str:
        return str(lab_verb("machines", "show", one["id"], "--json").json["state"])

    stopped = lab_verb("machines", "stop", one["id"], "--json")
    assert stopped.status == 0, stopped.err
    assert stopped.json["machines"] == [{"id": one["id"], "state": "stopped", "workspace": "machine"}]
    assert lab_verb("machines", "start", one["id"]).status == 4
    assert lab_verb("machines", "start", one["id"], "--yes").status == 0
    eventually(lambda: state() == "ready")
    gone = lab_verb("machines", "destroy", one["id"], "--yes", "--json")
    assert gone.status == 0
    eventually(lambda: state() == "destroyed")


def test_a_stranger_is_listed_and_adopted(lab_verb: Verb) -> None:
    lab = lab_verb("lab", "status", "--json").json
    offers = lab_verb("offers", "--gpu", "3090", "--count", "1", "--kind", "on-demand", "--json").json["offers"]
    ask = offers[0]["id"].split("-")[0]
    rented = httpx.put(
        f"{lab['endpoints']['vast']}/api/v0/asks/{ask}/",
        headers={"Authorization": f"Bearer {lab['token']}"},
        json={"image": "busybox", "disk": 10, "label": "not ours", "runtype": "ssh"},
        trust_env=False,
    )
    assert rented.status_code == 200, rented.text
    name = f"vast:{rented.json()['new_contract']}"

    def stranger() -> Any:
        machines = lab_verb("machines", "list", "--json").json["machines"]
        return [m for m in machines if m["id"] == name]

    (found,) = eventually(stranger)
    assert (found["state"], found["label"]) == ("stranger", "not ours")
    assert "not ours" in lab_verb("status").out
    adopted = lab_verb("machines", "adopt", name, "--json")
    assert adopted.status == 0, adopted.err
    (ours,) = adopted.json["machines"]
    assert not stranger()
    assert lab_verb("machines", "destroy", ours["id"], "--yes").status == 0


def test_everything_goes_at_once(lab_verb: Verb, workspace: str) -> None:
    down = lab_verb("down", "--all", "--yes", "--json")
    assert down.status == 0, down.err
    assert down.json["machines"]

    def gone() -> bool:
        machines = lab_verb("machines", "list", "--json").json["machines"]
        return not [m for m in machines if m["state"] != "stranger"]

    eventually(gone)
    assert lab_verb("list", "--json").json["workspaces"] == []
    assert lab_verb("budget", "show", "--json").json["spent"]["burn_usd_per_hour"] == 0


def test_the_engine_is_started_by_whoever_needs_it(lab_verb: Verb, workspace: str) -> None:
    stopped = lab_verb("engine", "stop", "--json")
    assert stopped.json["state"] == "stopped"
    assert lab_verb("engine", "status", "--json").json["state"] == "stopped"
    assert lab_verb("show", workspace, "--json").json["state"] in ("running", "suspect")
    assert lab_verb("engine", "status", "--json").json["pid"] != stopped.json["was_pid"]
