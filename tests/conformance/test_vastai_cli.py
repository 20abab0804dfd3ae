"""The provider's own command line (PyPI `vastai`) against the lab: a client that nobody here wrote finds what it
expects.

Runs where UNDERSTUDY_VASTAI names its executable, in an environment of its own; elsewhere there is nothing to
collect.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab.running_lab import RunningLab, wait_until

pytestmark = pytest.mark.conformance
EXECUTABLE = os.environ.get("UNDERSTUDY_VASTAI", "vastai")
CALL_LIMIT_S = 120.0


class Client:
    """`vastai` with a home of its own: it writes there, and must not read the operator's."""

    def __init__(self, lab: RunningLab, home: Path) -> None:
        self.lab = lab
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "VAST_URL": lab.vast_url,
            "VAST_API_KEY": str(lab.about["token"]),
            "COLUMNS": "300",
        }

    def run(self, *words: str, **environ: str) -> str:
        done = subprocess.run(
            [EXECUTABLE, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_LIMIT_S,
            env={**self.environ, **environ},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def raw(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--raw"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("v")
    home = folder / "home"
    home.mkdir()
    lab = RunningLab(folder / "l", "--pacing", "off", "--boot-s", "1").start()
    yield Client(lab, home)
    lab.close()


@pytest.fixture(scope="module")
def key(client: Client) -> Path:
    path = client.home / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    assert "created" in client.run("create", "ssh-key", path.with_suffix(".pub").read_text().strip())
    return path


@pytest.fixture(scope="module")
def contract(client: Client, key: Path) -> Iterator[int]:
    offer = client.raw("search", "offers", "num_gpus=1 gpu_name=RTX_3090 reliability>0.9", "-o", "min_bid")[0]
    price = str(offer["min_bid"] * 3)
    words = ("create", "instance", str(offer["id"]), "--image", "pytorch/pytorch", "--disk", "20", "--label", "one")
    made = client.raw(*words, "--ssh", "--direct", "--bid_price", price, "--env", "-e MINE=yes")
    assert made["success"] is True
    yield made["new_contract"]
    client.run("destroy", "instance", str(made["new_contract"]), "-y")


def running(client: Client, contract: int) -> dict[str, Any]:
    row: dict[str, Any] = client.lab.wait_running(contract)
    return row


def test_search_by_country_type_and_order(client: Client) -> None:
    rows = client.raw("search", "offers", "geolocation in [SE,NO,PL] num_gpus>=1", "-o", "dph_total")
    assert rows
    assert {row["geolocation"][-2:] for row in rows} <= {"SE", "NO", "PL"}
    assert [row["dph_total"] for row in rows] == sorted(row["dph_total"] for row in rows)
    bids = client.raw("search", "offers", "num_gpus=1", "-i")
    assert all(row["is_bid"] for row in bids)
    assert "RTX_3090" in client.run("search", "offers", "gpu_name=RTX_3090")


def test_show_and_label(client: Client, contract: int) -> None:
    running(client, contract)
    assert str(contract) in client.run("show", "instances")
    row = client.raw("show", "instance", str(contract))
    assert (row["id"], row["actual_status"], row["label"]) == (contract, "running", "one")
    assert "set to two" in client.run("label", "instance", str(contract), "two")
    assert client.raw("show", "instance", str(contract))["label"] == "two"


def test_ssh_url_leads_into_the_machine(client: Client, contract: int, key: Path) -> None:
    running(client, contract)
    url = urlsplit(client.run("ssh-url", str(contract)).strip())
    options = [
        "-F",
        "none",
        "-i",
        str(key),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={client.home}/hosts",
    ]
    command = [
        "ssh",
        *options,
        "-p",
        str(url.port),
        f"{url.username}@{url.hostname}",
        "nvidia-smi -L; cat /proc/self/environ",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CALL_LIMIT_S)
    assert "RTX 3090" in done.stdout
    assert f"VAST_CONTAINERLABEL=C.{contract}" in done.stdout
    assert "MINE=yes" in done.stdout


def test_logs(client: Client, contract: int) -> None:
    running(client, contract)
    assert f"C.{contract}" in client.run("logs", str(contract))


def test_stop_start_and_reboot(client: Client, contract: int) -> None:
    running(client, contract)
    assert "stopping" in client.run("stop", "instance", str(contract))
    wait_until(lambda: (client.lab.row(contract) or {})["actual_status"] == "exited")
    assert "starting" in client.run("start", "instance", str(contract))
    running(client, contract)
    assert "Rebooting" in client.run("reboot", "instance", str(contract))
    running(client, contract)


def test_change_bid_and_user(client: Client, contract: int) -> None:
    assert "changed" in client.run("change", "bid", str(contract), "--price", "1.5")
    assert client.raw("show", "instance", str(contract))["dph_base"] == 1.5
    assert client.raw("show", "user")["credit"] > 0


def test_a_bid_too_low_and_an_offer_nobody_has(client: Client) -> None:
    offer = client.raw("search", "offers", "num_gpus=1")[0]["id"]
    words = ("--image", "i", "--disk", "10", "--ssh")
    assert "invalid_price" in client.run("create", "instance", str(offer), *words, "--bid_price", "0.001")
    assert "no_such_ask" in client.run("create", "instance", "1", *words)


def test_a_bad_key(client: Client) -> None:
    assert "401" in client.run("show", "instances", VAST_API_KEY="wrong")
    assert "404" in client.run("search", "offers", VAST_API_KEY="wrong")


def test_destroy_and_destroy_again(client: Client, contract: int) -> None:
    assert "destroying" in client.run("destroy", "instance", str(contract), "-y")
    assert "no_such_instance" in client.run("destroy", "instance", str(contract), "-y")
    assert "not found" in client.run("show", "instance", str(contract))


SDK = """
import json, sys
from vastai import VastAI
vast = VastAI(api_key=sys.argv[2], server_url=sys.argv[1])
offer = vast.search_offers(query="num_gpus=1 gpu_name=RTX_3090", order="dph_total", limit=2)[0]
made = vast.create_instance(id=offer["id"], image="i", disk=10, ssh=True, direct=True)["new_contract"]
listed = [row["id"] for row in vast.show_instances()]
shown = vast.show_instance(id=made)["id"]
gone = vast.destroy_instance(id=made)["success"]
print(json.dumps([made in listed, shown == made, gone]))
"""


def test_the_providers_python_package(client: Client) -> None:
    python = Path(EXECUTABLE).with_name("python")
    command = [str(python), "-c", SDK, client.lab.vast_url, client.environ["VAST_API_KEY"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CALL_LIMIT_S, env=client.environ)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True, True]
