"""A machine rented, used and given back by the command line, as an operator would: the steps of `make test-live`.

They are rehearsed in the lab with every run of the tests, so that the day they cost money they are no surprise. They
cost at most CAP_USD: the budget of their own home refuses anything dearer, and the machine ends itself after LIFE even
when the test, its engine and this computer are gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CAP_USD = 2.0
USD_PER_HOUR = 0.5  # all-in; with LIFE an eighth of the cap, so that traffic and a slow end fit under it as well
LIFE = "30m"
DISK_GB = 10
OFFERS_TRIED = 3
RELIABILITY = 0.98
MARKET_WAIT_S = 90.0
PROOF_WAIT_S = 300.0  # two listings, each up to a minute behind
READING_WAIT_S = 60.0
REFUSED = 4  # the exit status of what the budget does not allow


class Operator:
    """Types `understudy` in a home of its own and reads the JSON that comes back."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "core.cli", "--home", str(self.home), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def ask(self, *words: str) -> Any:
        done = self.run(*words, "--json", "--yes")
        assert done.returncode == 0, f"understudy {' '.join(words)} left with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    def machines(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.ask("machines", "list", "--all")["machines"]
        return [machine for machine in listed if machine["role"] != "stranger"]


def give_back(operator: Operator) -> float:
    """Ends everything; returns what it cost in USD by list price and time once the provider has proven it gone."""
    operator.ask("down", "--all")
    _wait_until_gone(operator)
    return sum(machine["cost_usd"] or 0.0 for machine in operator.machines())


def _wait_until_gone(operator: Operator) -> None:
    deadline = time.monotonic() + PROOF_WAIT_S
    while left := [m for m in operator.machines() if m["state"] not in ("destroyed", "failed")]:
        assert time.monotonic() < deadline, f"not proven gone, look at the provider's console: {left}"
        time.sleep(2)


def _cheapest(operator: Operator) -> list[dict[str, Any]]:
    words = ("offers", "--kind", "on-demand", "--provider", "vast", "--max-usd-per-hour", str(USD_PER_HOUR))
    deadline = time.monotonic() + MARKET_WAIT_S
    while True:
        market = operator.ask(*words)
        sound = [offer for offer in market["offers"] if (offer["reliability"] or 0.0) >= RELIABILITY]
        if sound or time.monotonic() > deadline:
            assert sound, f"nothing to rent under ${USD_PER_HOUR}/h: {market['providers']}"
            return sorted(sound, key=lambda offer: offer["all_in_usd_per_hour"])[:OFFERS_TRIED]
        time.sleep(2)


def _rent(operator: Operator) -> dict[str, Any]:
    refusals = []
    for number, offer in enumerate(_cheapest(operator), start=1):
        limits = ("--disk-gb", str(DISK_GB), "--for", LIFE, "--max-usd-per-hour", str(USD_PER_HOUR))
        done = operator.run("up", f"live-check-{number}", "--offer", offer["id"], *limits, "--json", "--yes")
        if done.returncode == 0:
            workspace: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return workspace
        refusals.append(f"{offer['id']}: {done.stderr.strip()}")
        _wait_until_gone(operator)  # it counts against the budget until it is proven gone
    raise AssertionError(f"no offer gave a machine: {refusals}")


def use(operator: Operator, folder: Path) -> None:
    """Rents the cheapest sound machine, and does with it what one does."""
    operator.ask(
        "budget", "set", "--usd-per-hour", str(USD_PER_HOUR), "--usd-per-month", str(CAP_USD), "--machines", "1"
    )
    workspace = _rent(operator)
    name, machine = workspace["name"], workspace["primary"]
    assert workspace["state"] == "running"
    assert machine["state"] == "ready"
    assert machine["expires_at"], "it has to end itself"

    listed = operator.run("ssh", name, "--", "nvidia-smi", "-L")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("GPU ") == machine["gpu_count"]

    here, back = folder / "here.bin", folder / "back"
    here.write_bytes(os.urandom(1 << 20))
    operator.ask("push", name, str(here), "here.bin")
    operator.ask("pull", name, "here.bin", str(back))
    (came,) = [back] if back.is_file() else [path for path in back.rglob("*") if path.is_file()]
    assert came.read_bytes() == here.read_bytes()

    _wait_for_readings(operator, machine["id"])
    again = operator.run("up", "one-too-many", "--offer", _cheapest(operator)[-1]["id"], "--dry-run", "--json")
    assert again.returncode == REFUSED, "the budget allows one machine"


def _wait_for_readings(operator: Operator, machine_id: str) -> None:
    deadline = time.monotonic() + READING_WAIT_S
    while time.monotonic() < deadline:
        (machine,) = [m for m in operator.machines() if m["id"] == machine_id]
        if machine["gpus"] and machine["reading_age_s"] < 10:
            return
        time.sleep(2)
    raise AssertionError("its agent sent no figures")
