"""A lab in a process of its own, for tests: started, spoken to over real loopback HTTP, ended.

Its one rule: it ends with the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

START_LIMIT_S = 60.0
WAIT_LIMIT_S = 60.0


def wait_until(what: Callable[[], Any], limit_s: float = WAIT_LIMIT_S) -> Any:
    """The first true answer of `what`; AssertionError after a limit that only a broken program reaches."""
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        found = what()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"nothing came of {what} within {limit_s} s")


class RunningLab:
    """One `python -m core.lab up`, its token and its two HTTP clients."""

    def __init__(self, home: Path, *args: str) -> None:
        self.home = home
        self.args = args
        self.http = httpx.Client(timeout=30.0, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def parent_option(self) -> list[str]:
        """Ends with the test run, whatever happens to the test."""
        return ["--with-parent"]

    def start(self) -> RunningLab:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "core.lab", "up", "--home", str(self.home), *self.parent_option, *self.args]
        log = (self.home.parent / f"{self.home.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
        announcement = self.home / "lab" / "lab.json"
        wait_until(lambda: self._announced(announcement), START_LIMIT_S)
        return self

    def _announced(self, path: Path) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home.parent / f"{self.home.name}.log").read_text()
        if not path.is_file():
            return False
        self.about = json.loads(path.read_text())
        return bool(self.about["pid"] == self.process.pid)

    @property
    def vast_url(self) -> str:
        return str(self.about["endpoints"]["vast"])

    def vast(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **query: str
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.about['token']}"}
        return self.http.request(method, self.vast_url + path, json=body, headers=headers, params=query)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.about['token']}"}
        answer = self.http.request(method, self.about["control"] + path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, name: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.about['token']}"}
        return self.http.post(self.about["control"] + "/lab/fault", json={"name": name, **body}, headers=headers)

    def advance(self, seconds: float) -> None:
        self.control("POST", "/lab/advance", {"seconds": seconds})

    def offers(self, **filters: Any) -> list[dict[str, Any]]:
        body = {"order": [["dph_total", "asc"]], "limit": 1000, **filters}
        answer = self.vast("POST", "/api/v0/bundles/", body)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["offers"]
        return rows

    def rent(self, offer: int | None = None, **more: Any) -> httpx.Response:
        body = {"client_id": "me", "image": "test/image", "disk": 20, "runtype": "ssh_direc ssh_proxy", **more}
        return self.vast("PUT", f"/api/v0/asks/{offer or self.offers()[0]['id']}/", body)

    def row(self, contract: int) -> dict[str, Any] | None:
        row: dict[str, Any] | None = self.vast("GET", f"/api/v0/instances/{contract}/").json()["instances"]
        return row

    def machine(self, contract: int) -> dict[str, Any]:
        return next(m for m in self.control("GET", "/lab/status")["machines"] if m["id"] == str(contract))

    def wait_running(self, contract: int) -> dict[str, Any]:
        """The row of a contract once it runs; fails at once when it never will."""

        def runs() -> dict[str, Any] | None:
            row = self.row(contract)
            machine = self.machine(contract)
            assert machine["state"] != "gone", machine
            return row if row is not None and row["actual_status"] == "running" else None

        found: dict[str, Any] = wait_until(runs)
        return found

    def kill(self) -> None:
        """kill -9 of the front only."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, and whatever a killed front left."""
        self.http.close()
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=WAIT_LIMIT_S)
