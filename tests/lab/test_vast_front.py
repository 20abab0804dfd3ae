"""The Vast front over real loopback HTTP, clock in the test's hand, no machines: what the provider documents, call by
call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.running_lab import RunningLab

BOOT_S = 10.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAExjz/ZaPMgMmYheTfrbSsh6d9dYCS8e27cTHGz3B+R me@here"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    home = tmp_path_factory.mktemp("vast") / "home"
    running = RunningLab(home, "--no-machines", "--manual-clock", "--pacing", "off", "--boot-s", str(BOOT_S)).start()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def clean(lab: RunningLab) -> Iterator[None]:
    yield
    lab.control("POST", "/lab/heal", {})
    for row in lab.vast("GET", "/api/v0/instances/").json()["instances"]:
        lab.vast("DELETE", f"/api/v0/instances/{row['id']}/", {})


def running(lab: RunningLab, **more: Any) -> int:
    contract: int = lab.rent(**more).json()["new_contract"]
    boot(lab)
    assert (lab.row(contract) or {})["actual_status"] == "running"
    return contract


def boot(lab: RunningLab) -> None:
    """Let a boot's time pass; each step waits for the pump to have carried out what the one before asked for."""
    for _ in range(3):
        lab.advance(BOOT_S)
        settle(lab)


def settle(lab: RunningLab) -> None:
    for _ in range(3):
        lab.control("GET", "/lab/status")


# -- search ------------------------------------------------------------------------------------------


def test_search_with_numbers_and_strings_by_both_doors(lab: RunningLab) -> None:
    numbers = lab.offers(gpu_name={"eq": "RTX 3090"}, num_gpus={"eq": 1}, reliability={"gt": 0.9})
    strings = lab.offers(gpu_name={"eq": "RTX 3090"}, num_gpus={"eq": "1"}, reliability={"gt": "0.9"})
    assert numbers
    assert [r["id"] for r in numbers] == [r["id"] for r in strings]
    query = {"gpu_name": {"eq": "RTX 3090"}, "num_gpus": {"eq": "1"}, "order": [["dph_total", "asc"]], "limit": 1000}
    put = lab.vast("PUT", "/api/v0/search/asks/", {"select_cols": ["*"], "q": {**query, "reliability": {"gt": "0.9"}}})
    assert [r["id"] for r in put.json()["offers"]] == [r["id"] for r in numbers]


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        ({"num_gpus": {"gte": "2", "lt": 5}}, lambda r: 2 <= r["num_gpus"] < 5),
        ({"gpu_name": {"in": ["H200", "B200"]}}, lambda r: r["gpu_name"] in ("H200", "B200")),
        ({"gpu_name": {"notin": ["RTX 3090"]}}, lambda r: r["gpu_name"] != "RTX 3090"),
        ({"num_gpus": {"neq": 1}}, lambda r: r["num_gpus"] != 1),
        ({"geolocation": {"in": ["SE", "NO"]}}, lambda r: r["geolocation"][-2:] in ("SE", "NO")),
        ({"geolocation": {"eq": "JP"}}, lambda r: r["geolocation"].endswith("JP")),
        ({"verified": {"eq": "true"}}, lambda r: r["verification"] == "verified"),
        ({"driver_version": {"gte": 570000000}}, lambda r: int(r["driver_version"].split(".")[0]) >= 570),
        ({"cuda_max_good": {"gte": "12.8"}}, lambda r: r["cuda_max_good"] >= 12.8),
        ({"gpu_ram": {"lte": 24576.0}, "cluster_id": {"eq": None}}, lambda r: r["gpu_ram"] <= 24576),
    ],
)
def test_operators(lab: RunningLab, filters: dict[str, Any], holds: Any) -> None:
    everything = lab.offers()
    found = {row["id"] for row in lab.offers(**filters)}
    assert found == {row["id"] for row in everything if holds(row)}
    assert found
    assert len(found) < len(everything)


def test_order_limit_and_default_limit(lab: RunningLab) -> None:
    rows = lab.offers(order=[["num_gpus", "desc"], ["dph_total", "asc"]])
    assert [(-r["num_gpus"], r["dph_total"]) for r in rows] == sorted((-r["num_gpus"], r["dph_total"]) for r in rows)
    assert len(lab.vast("POST", "/api/v0/bundles/", {"limit": "3"}).json()["offers"]) == 3
    assert len(lab.vast("POST", "/api/v0/bundles/", {}).json()["offers"]) == 64


def test_bid_offers_are_priced_from_the_floor_and_storage_is_in(lab: RunningLab) -> None:
    bids = lab.offers(type="bid", allocated_storage=100)
    for row in bids:
        assert row["is_bid"] is True
        assert row["dph_base"] == row["min_bid"]
        disk = row["storage_cost"] * 100 / 30 / 24
        assert row["dph_total"] == pytest.approx(row["dph_base"] + disk, abs=1e-5)
    dear = {row["id"]: row["dph_base"] for row in lab.offers(allocated_storage=100)}
    assert all(row["dph_base"] <= dear[row["id"]] for row in bids)
    assert lab.offers(type="ondemand") == lab.offers(type="on-demand")


@pytest.mark.parametrize(
    "body", [{"num_gpus": {"like": 1}}, {"num_gpus": {"eq": "four"}}, {"limit": "many"}, {"type": "gift"}, {"order": 5}]
)
def test_what_search_cannot_understand_is_400(lab: RunningLab, body: dict[str, Any]) -> None:
    answer = lab.vast("POST", "/api/v0/bundles/", body)
    assert answer.status_code == 400
    assert answer.json()["success"] is False


# -- who may call ---------------------------------------------------------------------------------------


def test_bad_keys_and_the_public_calls(lab: RunningLab) -> None:
    assert lab.vast("GET", "/api/v0/users/current/", token="wrong").status_code == 401
    search = lab.vast("POST", "/api/v0/bundles/", {}, token="wrong")
    assert (search.status_code, search.json()["msg"]) == (404, "Invalid user key")
    names = lab.http.get(lab.vast_url + "/api/v0/gpu_names/unique/")
    assert len(names.json()["gpu_names"]) >= 12
    assert lab.http.get(lab.vast_url + "/api/v0/users/current/").status_code == 401
    legacy = lab.http.get(lab.vast_url + "/api/v0/users/current", params={"api_key": lab.about["token"]})
    assert legacy.json()["credit"] > 0


def test_an_instances_own_key_reaches_only_itself(lab: RunningLab) -> None:
    made = lab.rent().json()
    mine, key = made["new_contract"], made["instance_api_key"]
    other = lab.rent().json()["new_contract"]
    assert lab.vast("PUT", f"/api/v0/instances/{mine}/", {"state": "stopped"}, token=key).status_code == 200
    for method, path in (
        ("DELETE", f"/api/v0/instances/{other}/"),
        ("GET", "/api/v1/instances/"),
        ("GET", "/api/v0/ssh/"),
    ):
        assert lab.vast(method, path, token=key).status_code == 403
    assert lab.vast("DELETE", f"/api/v0/instances/{mine}/", {}, token=key).json()["success"] is True
    assert lab.vast("PUT", f"/api/v0/instances/{mine}/", {"state": "running"}, token=key).status_code == 401


def test_host_and_origin_are_checked(lab: RunningLab) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        for base in (lab.vast_url + "/api/v0/gpu_names/unique/", lab.about["control"] + "/lab/status"):
            assert lab.http.get(base, headers=headers).status_code == 403
    assert lab.http.get(lab.about["control"] + "/lab/status").status_code == 401


def test_content_type_and_slashes_are_exact(lab: RunningLab) -> None:
    for path in ("/api/v0/users/current", "/api/v0/users/current/"):
        answer = lab.vast("GET", path)
        assert answer.headers["content-type"] == "application/json"
        assert "date" in answer.headers
    assert lab.vast("GET", "/api/v0/nothing/").status_code == 404
    body = lab.http.put(
        lab.vast_url + "/api/v0/asks/1/", content=b"{", headers={"Authorization": f"Bearer {lab.about['token']}"}
    )
    assert (body.status_code, body.json()["error"]) == (400, "invalid_args")


# -- rent -------------------------------------------------------------------------------------------------


def test_a_machine_comes_up_with_what_clients_need(lab: RunningLab) -> None:
    answer = lab.rent(env={"KEY": "v", "-p 8000:8000": "1"}, label="mine", onstart="echo hello")
    contract = answer.json()["new_contract"]
    row = lab.row(contract)
    assert row is not None
    assert row["actual_status"] is None
    assert row["ports"] is None
    lab.advance(BOOT_S * 0.5)
    row = lab.row(contract)
    assert row is not None
    assert row["actual_status"] == "loading"
    assert "test/image" in row["status_msg"] or ":" in row["status_msg"]
    boot(lab)
    row = lab.row(contract)
    assert row is not None
    assert row["actual_status"] == row["intended_status"] == row["cur_state"] == "running"
    assert row["status_msg"] == "success, running test/image/ssh"
    assert row["ports"]["22/tcp"][0]["HostPort"].isdigit()
    assert row["extra_env"] == [["KEY", "v"]]
    assert row["label"] == "mine"
    assert row["start_date"] > 0
    assert row["is_bid"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"disk": 4},
        {"disk": "much"},
        {"image": ""},
        {"image": "i" * 1025},
        {"label": "l" * 257},
        {"onstart": "o" * 4097},
        {"price": 0.0001},
        {"price": "cheap"},
        {"runtype": "telnet"},
        {"env": 5},
        {"disk": 99999},
    ],
)
def test_bad_orders_are_refused_and_make_nothing(lab: RunningLab, body: dict[str, Any]) -> None:
    assert lab.rent(**body).status_code == 400
    assert lab.vast("GET", "/api/v1/instances/").json()["total_instances"] == 0


def test_an_offer_that_vanished_is_410_and_one_nobody_knows_404(lab: RunningLab) -> None:
    offer = next(row for row in lab.offers(gpu_frac={"eq": 1}) if row["num_gpus"] == 1)["id"]
    assert lab.rent(offer).status_code == 200
    again = lab.rent(offer)
    assert again.status_code == 410
    assert again.json() == {
        "success": False,
        "error": "no_such_ask",
        "msg": f"error 410/3603: no_such_ask Instance type by id {offer} is not available.",
        "ask_id": offer,
    }
    assert lab.rent(12).status_code == 404


def test_a_bid_too_low_is_an_error_that_still_makes_a_contract(lab: RunningLab) -> None:
    answer = lab.rent(price=0.001)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_price")
    row = lab.row(answer.json()["new_contract"])
    assert row is not None
    assert row["intended_status"] == row["cur_state"] == "stopped"
    assert row["storage_total_cost"] > 0


def test_bulk_rent(lab: RunningLab) -> None:
    ids = [row["id"] for row in lab.offers(gpu_frac={"eq": 1}, num_gpus={"eq": 1})[:3]]
    body = {"image": "i", "disk": 10, "ids": [*ids, 12]}
    answer = lab.vast("POST", "/api/v0/asks/bulk/", body).json()
    assert len(answer["new_contracts"]) == 3
    assert answer["failed_ids"] == [12]
    gone = lab.vast("DELETE", "/api/v0/instances/", {"instance_ids": answer["new_contracts"]})
    assert gone.json()["success"] is True


# -- instances ------------------------------------------------------------------------------------------------


def test_list_pages_by_key_and_loses_nothing_while_rows_vanish(lab: RunningLab) -> None:
    made = [lab.rent(label=f"n{number}").json()["new_contract"] for number in range(60)]
    seen: list[int] = []
    token = ""
    while True:
        query = {"limit": "25", "order_by": json.dumps([{"col": "id", "dir": "asc"}]), "select_cols": '["*"]'}
        page = lab.vast("GET", "/api/v1/instances/", **query, **({"after_token": token} if token else {})).json()
        assert len(page["instances"]) <= 25
        seen += [row["id"] for row in page["instances"]]
        if len(seen) == 25:
            lab.vast("DELETE", f"/api/v0/instances/{made[3]}/", {})
        token = page["next_token"]
        if not token:
            break
    assert seen == made
    assert page["total_instances"] == 59
    down = lab.vast("GET", "/api/v1/instances/", order_by=json.dumps([{"col": "id", "dir": "desc"}])).json()
    assert [row["id"] for row in down["instances"]] == sorted(made, reverse=True)[:25]


def test_list_filters_stored_columns_only(lab: RunningLab) -> None:
    one = lab.rent(label="understudy/a").json()["new_contract"]
    lab.rent(label="other")
    found = lab.vast("GET", "/api/v1/instances/", select_filters=json.dumps({"label": {"eq": "understudy/a"}})).json()
    assert [row["id"] for row in found["instances"]] == [one]
    assert (found["instances_found"], found["total_instances"]) == (1, 2)
    assert found["label_counts"] == {"understudy/a": 1, "other": 1}
    for query in ({"select_filters": '{"dph_total":{"gt":1}}'}, {"order_by": '[{"col":"num_gpus","dir":"asc"}]'}):
        answer = lab.vast("GET", "/api/v1/instances/", **query)
        assert answer.status_code == 400
        assert "invalid_request" in answer.json()["msg"]
    narrow = lab.vast("GET", "/api/v1/instances/", select_cols='["label"]').json()["instances"][0]
    assert set(narrow) == {"id", "label"}
    assert lab.vast("GET", "/api/v1/instances/", after_token="bad").status_code == 400


def test_stop_start_label_destroy(lab: RunningLab) -> None:
    contract = running(lab)
    path = f"/api/v0/instances/{contract}/"
    assert lab.vast("PUT", path, {"state": "stopped"}).json() == {"success": True}
    row = lab.row(contract)
    assert row is not None
    assert (row["actual_status"], row["intended_status"], row["ports"]) == ("exited", "stopped", None)
    assert lab.vast("PUT", path, {"label": "new"}).status_code == 200
    assert lab.vast("PUT", path, {"state": "running"}).status_code == 200
    boot(lab)
    row = lab.row(contract)
    assert row is not None
    assert (row["actual_status"], row["label"]) == ("running", "new")
    assert lab.vast("PUT", path, {"state": "flying"}).status_code == 400
    assert lab.vast("DELETE", path, {}).json() == {"success": True}
    assert lab.row(contract) is None
    gone = lab.vast("DELETE", path, {})
    assert (gone.status_code, gone.json()["error"]) == (404, "no_such_instance")


def test_reboot_goes_through_rebooting(lab: RunningLab) -> None:
    contract = running(lab)
    assert lab.vast("PUT", f"/api/v0/instances/reboot/{contract}/", {}).status_code == 200
    assert (lab.row(contract) or {})["actual_status"] == "rebooting"
    boot(lab)
    assert (lab.row(contract) or {})["actual_status"] == "running"
    assert lab.vast("PUT", f"/api/v0/instances/recycle/{contract}/", {}).status_code == 200


def test_change_bid_and_the_outbid_rule(lab: RunningLab) -> None:
    contract = running(lab, price=2.0)
    assert lab.fault("outbid", machine=str(contract)).status_code == 200
    row = lab.row(contract)
    assert row is not None
    assert row["is_bid"]
    assert row["cur_state"] == row["intended_status"] == row["next_state"] == "stopped"
    path = f"/api/v0/instances/bid_price/{contract}/"
    assert lab.vast("PUT", path, {"client_id": "me", "price": None}).status_code == 200
    boot(lab)
    row = lab.row(contract)
    assert row is not None
    assert row["actual_status"] == "running"
    assert row["dph_base"] == pytest.approx(2.6)
    assert lab.vast("PUT", path, {"price": 900}).json()["error"] == "invalid_price"
    on_demand = running(lab)
    assert lab.vast("PUT", f"/api/v0/instances/bid_price/{on_demand}/", {"price": 1}).status_code == 400


def test_a_silent_host_is_running_then_unknown_then_offline(lab: RunningLab) -> None:
    contract = running(lab)
    assert lab.fault("kill", machine=str(contract), options={"power_off": 1}).status_code == 200
    seen = []
    for _ in range(8):
        seen.append((lab.row(contract) or {})["actual_status"])
        lab.advance(5.0)
    assert list(dict.fromkeys(seen)) == ["running", "unknown", "offline"]
    assert lab.fault("heal", machine=str(contract)).status_code == 200
    boot(lab)
    assert (lab.row(contract) or {})["actual_status"] == "running"


def test_balance_falls(lab: RunningLab) -> None:
    before = lab.vast("GET", "/api/v0/users/current/").json()["credit"]
    running(lab)
    lab.advance(3600)
    after = lab.vast("GET", "/api/v0/users/current/").json()["credit"]
    assert 0.05 < before - after < 1.0


def poll_result(lab: RunningLab, url: str) -> str:
    for _ in range(100):
        answer = lab.http.get(url)
        if answer.status_code == 200:
            return answer.text
        assert answer.status_code == 403
    raise AssertionError("the result never came")


def test_logs_and_execute_by_result_url(lab: RunningLab) -> None:
    contract = running(lab)
    asked = lab.vast("PUT", f"/api/v0/instances/request_logs/{contract}/", {"tail": "2"}).json()
    assert len(poll_result(lab, asked["result_url"]).splitlines()) == 2
    asked = lab.vast("PUT", f"/api/v0/instances/request_logs/{contract}/", {"tail": "9", "filter": "sshd"}).json()
    assert poll_result(lab, asked["result_url"]).startswith("sshd")
    path = f"/api/v0/instances/command/{contract}/"
    assert lab.vast("PUT", path, {"command": "ls -l /workspace"}).json()["result_url"]
    for command in ("cat /etc/passwd", "", "ls 'unbalanced", "ls " + "x" * 600):
        assert lab.vast("PUT", path, {"command": command}).status_code == 400


def test_ssh_keys_of_account_and_instance(lab: RunningLab) -> None:
    before = running(lab)
    made = lab.vast("POST", "/api/v0/ssh/", {"ssh_key": KEY}).json()["key"]["id"]
    assert lab.vast("POST", "/api/v0/ssh/", {"ssh_key": KEY}).status_code == 400
    assert lab.vast("POST", "/api/v0/ssh/", {"ssh_key": "hello"}).status_code == 400
    assert [k["id"] for k in lab.vast("GET", "/api/v0/ssh/").json()] == [made]
    after = lab.rent().json()["new_contract"]

    def keys(contract: int) -> list[int]:
        return [k["id"] for k in json.loads(lab.vast("GET", f"/api/v0/instances/{contract}/ssh/").json()["ssh_keys"])]

    assert keys(before) == []
    assert keys(after) == [made]
    assert lab.vast("POST", f"/api/v0/instances/{before}/ssh/", {"ssh_key": KEY}).json()["success"]
    assert keys(before) == [made]
    assert lab.vast("DELETE", f"/api/v0/instances/{before}/ssh/{made}/").json()["success"]
    assert keys(before) == []
    assert lab.vast("PUT", f"/api/v0/ssh/{made}/", {"ssh_key": KEY + "2"}).json()["success"]
    assert lab.vast("DELETE", f"/api/v0/ssh/{made}/").json()["success"]
    assert lab.vast("DELETE", f"/api/v0/ssh/{made}/").status_code == 404
