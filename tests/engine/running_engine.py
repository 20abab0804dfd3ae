"""An engine in a process of its own, over a lab without machines, for tests: started, killed, asked through its socket.

`quick` is the real engine with SSH answered at once (`tests/bench/leaks_engine.py`); else it is the shipped program.
One rule: it ends with the test that started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.client import EngineClient
from core.domain import api
from core.domain.errors import EngineError
from core.domain.machines import Machine
from core.domain.operations import Operation
from core.domain.state import State
from core.domain.workspaces import UpSpec
from core.home import Home
from tests.lab.running_lab import RunningLab, wait_until

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
BOOT_TIMEOUT_S = 2.0
BUDGET = """[budget]
usd_per_hour = 1000.0
usd_per_month = 100000.0
machines = 100
"""


def fresh(prefix: str = "w") -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


class RunningEngine:
    """`lab` and `engine` share one home. `client` is the product's own door."""

    def __init__(
        self,
        home: Path,
        *,
        quick: bool,
        lab_args: tuple[str, ...] = (),
        database_url: str = "",
        judge_network: bool = False,
    ) -> None:
        self.home = Home(home, home).create()
        self.home.lab_mark.touch()
        timeout_s, network = BOOT_TIMEOUT_S if quick else 20.0, str(judge_network).lower()
        rent = f"[rent]\nboot_timeout_s = {timeout_s}\njudge_network = {network}\n"
        self.home.config_file.write_text(f'{BUDGET}{rent}[engine]\ndatabase_url = "{database_url}"\n')
        boot = ("--no-machines", "--pacing", "off", "--boot-s", "0.2")
        self.lab = RunningLab(home, *(lab_args or boot))
        self.quick = quick
        self.client = EngineClient(self.home)
        self.process: subprocess.Popen[str] | None = None
        self.pid = 0

    def open(self) -> RunningEngine:
        self.lab.start()
        self.start()
        return self

    def start(self) -> None:
        """A new engine life; returns once it answers."""
        module = "tests.bench.leaks_engine" if self.quick else "core.engine"
        words = [str(self.home.state)] if self.quick else ["run", "--home", str(self.home.state)]
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | {"UNDERSTUDY_LAB_PACING": "off"},
            )
            if self.quick:
                assert self._line() == "ready"
        self.pid = self.process.pid
        if self.quick:
            assert self.process.stdin is not None
            self.process.stdin.write("start\n")
            self.process.stdin.flush()
            self.pid = int(self._line())
        wait_until(self._answers)

    def _line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.home.log.read_text()
        try:
            return asyncio.run(self.client.hello()).pid == self.pid
        except EngineError:
            return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if not self.quick:
            assert self.process is not None
            self.process.wait()

    def close(self) -> None:
        """Ends engine and lab, in whatever state they are."""
        if self.process is not None:
            if self.quick:
                assert self.process.stdin is not None
                self.process.stdin.close()
            if self.process.poll() is None:
                os.kill(self.pid, signal.SIGTERM)
            self.process.wait(LIMIT_S)
            assert self.process.stdout is not None
            self.process.stdout.close()
            if self.process.stdin is not None:
                self.process.stdin.close()
        self.lab.close()

    # -- asking ----------------------------------------------------------------------------------------------------

    async def state(self) -> State:
        return (await self.client.state()).state

    async def until(self, what: Callable[[State], Any]) -> Any:
        """The first true answer of `what`; AssertionError after a limit that only a broken engine reaches."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while not (found := what(await self.state())):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to that; {self.home.log.read_text()[-3000:]}") from None
        return found

    async def ended(self, operation: str) -> Operation:
        def end(state: State) -> Operation | None:
            known = state.operations.get(operation)
            return known if known is not None and known.state != "running" else None

        found: Operation = await self.until(end)
        return found

    async def up(self, name: str = "", **spec: Any) -> Operation:
        """`up` and its end, whatever it is."""
        name = name or fresh()
        wanted = UpSpec(**({"gpu": "4090"} | spec))
        await self.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=wanted))
        return await self.ended(f"up-{name}")

    async def rented(self, name: str = "", **spec: Any) -> Machine:
        """The machine of an `up` that must succeed."""
        operation = await self.up(name, **spec)
        assert operation.state == "done", operation
        state = await self.state()
        primary = state.workspaces[operation.workspace or ""].primary
        return state.machines[primary or ""]

    async def down(self, name: str | None, operation: str = "") -> Operation:
        accepted = await self.client.down(api.DownIntent(operation=operation or fresh("down"), name=name))
        return await self.ended(accepted.operation)

    async def facts(self, **of: Any) -> list[Any]:
        """The journal's newest facts of these columns, oldest first."""
        page = await self.client.journal(limit=-5000)
        return [f for f in page.facts if all(getattr(f, k) == v for k, v in of.items())]

    async def empty(self) -> None:
        """Nothing is left in the account nor under way."""
        self.lab.control("POST", "/lab/heal", {})
        await self.down(None)
        await self.until(lambda s: all(m.state in ("destroyed", "failed") for m in s.machines.values()))

    def contracts(self, **of: Any) -> list[dict[str, Any]]:
        """The lab's contracts, gone ones too."""
        rows = self.lab.control("GET", "/lab/truth")["contracts"]
        return [row for row in rows if all(row[k] == v for k, v in of.items())]

    def fault(self, name: str, **body: Any) -> None:
        answer = self.lab.fault(name, **body)
        assert answer.status_code == 200, answer.text
