"""One lane of the leak harness: a lab, a network in the harness's hand, an engine that is killed and started again.

One rule: what happened is judged from the lab's world and from the ledger on disk, never from what the engine says.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from core.client import EngineClient
from core.domain.errors import EngineError
from core.home import Home
from tests.bench.wire import Wire
from tests.lab.running_lab import RunningLab

ROOT = Path(__file__).parents[2]
SERVING_LIMIT_S = 60.0
CONFIG = """[budget]
usd_per_hour = 1000.0
usd_per_month = 100000.0
machines = 100
[rent]
judge_network = false
attempts = 4
boot_timeout_s = 2.0
"""


@dataclass
class Death:
    """What was under way when an engine was killed, read from its ledger right after."""

    aim: str
    calling: list[str]
    accepted: int
    going: int


@dataclass
class Lane:
    """`lab` runs for the lane's whole life; `begin` and `end` bracket one engine home with its journal."""

    path: Path
    lab: RunningLab
    rng: random.Random
    sweep: bool = True
    deaths: list[Death] = field(default_factory=list)
    _homes: int = 0

    async def begin(self) -> None:
        """A new home with an engine that serves."""
        self._homes += 1
        directory = self.path / f"home{self._homes}"
        self.home = Home(directory, directory)
        self.home.create()
        self.home.lab_dir.mkdir(mode=0o700)
        self.home.lab_mark.touch()
        self.home.config_file.write_text(CONFIG)
        self.client = EngineClient(self.home)
        self.wire = Wire(self.lab.vast_url, self.rng)
        about = dict(self.lab.about, endpoints={"vast": await self.wire.open()})
        self.home.lab_file.write_bytes(msgspec.json.encode(about))
        command = [sys.executable, "-m", "tests.bench.leaks_engine", str(directory)]
        self._nursery = await asyncio.create_subprocess_exec(
            *command,
            *([] if self.sweep else ["--no-sweep"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"UNDERSTUDY_LAB_PACING": "off"},
        )
        await self._say()
        await self.start()
        await self.serving()

    async def end(self) -> None:
        """Stops the engine in good order; everything of it is gone afterwards."""
        await self.client.stop_engine()
        self._nursery.stdin.close()  # type: ignore[union-attr]
        await self._nursery.wait()
        await self.wire.close()

    async def abandon(self) -> None:
        """Ends what is left of a lane that failed."""
        if self._nursery.returncode is None:
            self._nursery.kill()
            await self._nursery.wait()
        await self.wire.close()

    async def _say(self, word: str = "") -> str:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        if word:
            self._nursery.stdin.write(f"{word}\n".encode())
        return (await self._nursery.stdout.readline()).decode().strip()

    async def start(self) -> None:
        self.pid = int(await self._say("start"))

    async def serving(self) -> None:
        """Until the engine answers."""
        ends = time.monotonic() + SERVING_LIMIT_S
        while True:
            try:
                hello = await self.client.hello()
            except EngineError:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.02)
            else:
                if hello.pid == self.pid:
                    return

    def kill(self, aim: str) -> None:
        """kill -9 now, and a look at what that cut through."""
        os.kill(self.pid, signal.SIGKILL)
        self.deaths.append(self._autopsy(aim))

    def _autopsy(self, aim: str) -> Death:
        with closing(sqlite3.connect(self.home.database, timeout=30.0)) as database:
            try:
                rows = database.execute("SELECT token, machine, state FROM intents WHERE state != 'GONE'").fetchall()
                bodies = dict(database.execute("SELECT key, body FROM objects WHERE kind = 'machines'").fetchall())
            except sqlite3.OperationalError:
                return Death(aim, [], 0, 0)  # killed before the first migration was committed
        going = [machine for _, machine, state in rows if state == "DESTROYING"]
        machines = [msgspec.json.decode(bodies[machine]) for machine in going if machine in bodies]
        accepted = sum(1 for each in machines if each.get("destroy_accepted_at") is not None)
        return Death(aim, [token for token, _, state in rows if state == "CALLING"], accepted, len(going))

    def last_words(self) -> str:
        """The end of the engine's log and of what it printed."""
        files = (self.home.log, self.home.state / "engine.out")
        return " | ".join(file.read_text()[-1500:] for file in files if file.exists())

    def said(self) -> Counter[str]:
        """How many facts of each kind this home's journal has."""
        with closing(sqlite3.connect(self.home.database, timeout=30.0)) as database:
            return Counter(dict(database.execute("SELECT kind, count(*) FROM facts GROUP BY kind").fetchall()))

    # -- the lab's side ------------------------------------------------------------------------------------------

    async def fault(self, name: str, for_s: float, **options: Any) -> None:
        await asyncio.to_thread(self.lab.fault, name, for_s=for_s, options=options)

    async def heal(self) -> None:
        await asyncio.to_thread(self.lab.control, "POST", "/lab/heal", {})

    async def truth(self) -> list[dict[str, Any]]:
        """Every contract of this home's owner that ever was; `token` is its intent's."""
        owner = (await self.client.hello()).owner
        rows: list[dict[str, Any]] = (await asyncio.to_thread(self.lab.control, "GET", "/lab/truth"))["contracts"]
        prefix = f"understudy/{owner}/"
        return [row | {"token": row["label"][len(prefix) :]} for row in rows if (row["label"] or "").startswith(prefix)]

    async def clear(self) -> None:
        """Destroys by hand what a broken engine left, so that the next trial begins with an empty account."""
        for row in await self.truth():
            if row["exists"]:
                await asyncio.to_thread(self.lab.vast, "DELETE", f"/api/v0/instances/{row['id']}/", {})
