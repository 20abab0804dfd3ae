"""A home with a lab, a history of any length, and an engine over it, for one measurement.

One rule: everything that it starts is a child of this process and ends with the `with` block.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import msgspec
import psutil

from core.client import EngineClient
from core.domain.errors import EngineError
from core.domain.events import Said
from core.domain.machines import Machine
from core.domain.workspaces import UpSpec
from core.home import Home
from core.store.database import sqlite_url
from core.store.store import Store, Tx
from tests.lab.running_lab import RunningLab

ROOT = Path(__file__).parents[2]
CONFIG = (
    "[budget]\nusd_per_hour = 10000.0\nusd_per_month = 1000000.0\nmachines = 5000\n[rent]\nboot_timeout_s = 3000.0\n"
)
CLOCK_LAB = ("--no-machines", "--pacing", "off", "--boot-s", "0.2")
SERVING_LIMIT_S = 120.0


class Rig:
    """`lab` args None: the plain lab without machines. Children are ended on leaving; so is the home."""

    def __init__(self, lab: tuple[str, ...] = CLOCK_LAB) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="understudy-bench-"))
        path = self.directory / "home"
        self.home = Home(path, path).create()
        self.home.lab_mark.touch()
        self.home.config_file.write_text(CONFIG)
        self.client = EngineClient(self.home)
        self.lab = RunningLab(path, *lab)
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Rig:
        self.lab.start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()
            child.wait(30)
        self.lab.close()
        shutil.rmtree(self.directory)

    def child(self, *argv: str, waits_for: bytes = b"", pacing: str = "off") -> subprocess.Popen[bytes]:
        """Starts `python -m ARGV`; reads until it said `waits_for`."""
        environment = os.environ | {"UNDERSTUDY_LAB_PACING": pacing}
        out = subprocess.PIPE if waits_for else None
        child = subprocess.Popen([sys.executable, "-m", *argv], cwd=ROOT, env=environment, stdout=out)
        self._children.append(child)
        if waits_for and child.stdout is not None:
            assert child.stdout.readline().strip() == waits_for
        return child

    def fleet(self) -> str:
        """Starts the agents; returns their socket."""
        path = str(self.directory / "fleet.sock")
        self.child("tests.bench.fleet", path, waits_for=b"ready")
        return path

    def engine(self, *argv: str, pacing: str = "off") -> tuple[psutil.Process, float]:
        """Starts an engine (`tests.bench.load_engine` with these options, else the shipped one) and waits until it
        answers: the process, and the seconds from its start to the answer."""
        words = ("tests.bench.load_engine", str(self.home.state), *argv) if argv else ()
        began = time.monotonic()
        child = self.child(*(words or ("core.engine", "run", "--home", str(self.home.state))), pacing=pacing)
        asyncio.run(self._serving(child))
        return psutil.Process(child.pid), time.monotonic() - began

    async def _serving(self, child: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + SERVING_LIMIT_S
        while True:
            try:
                if (await self.client.hello()).pid == child.pid:
                    return
            except EngineError:
                if time.monotonic() > ends or child.poll() is not None:
                    raise
            await asyncio.sleep(0.005)

    # -- a past for the home -----------------------------------------------------------------------------------------

    def seed(self, machines: int, rows: int = 0) -> None:
        """Gives the home so many ready machines, and a journal of so many facts."""
        asyncio.run(self._machines(machines))
        if rows:
            self._journal(rows)

    async def _machines(self, count: int) -> None:
        store = Store(sqlite_url(self.home.database), clock=time.time)
        await store.open()

        def work(tx: Tx) -> None:
            tx.say(Said(kind="budget_set", detail={"usd_per_hour": 10_000.0, "usd_per_month": 1e6, "machines": 5000}))
            for n in range(count):
                self._one(tx, n)

        await store.write(work)
        await store.close()

    @staticmethod
    def _one(tx: Tx, n: int) -> None:
        name, machine_id = f"bench-{n}", f"m-bench{n:04d}"
        machine = Machine(
            id=machine_id,
            provider="vast",
            state="ready",
            state_since=tx.now,
            gpu="RTX 4090",
            gpu_count=8,
            vram_mib=24_564,
            kind="on-demand",
            usd_per_hour=3.2,
            disk_gb=40.0,
            workspace=name,
            host_id=str(n),
            address="127.0.0.1",
            port=1,
            rented_at=tx.now,
            ready_at=tx.now,
            simulated=True,
        )
        spec = msgspec.to_builtins(UpSpec(gpu="4090", count=8))
        tx.say(Said(kind="workspace_asked", workspace=name, detail={"spec": spec}))
        detail = {"new_machine": msgspec.to_builtins(machine)}
        tx.say(Said(kind="machine_asked", machine=machine_id, workspace=name, detail=detail))
        tx.say(Said(kind="machine_ready", machine=machine_id, workspace=name, detail={}))
        tx.say(Said(kind="workspace_ready", machine=machine_id, workspace=name))

    def _journal(self, rows: int) -> None:
        """Facts that changed no object: what years of operations leave behind."""
        body = msgspec.json.encode(
            {"step": "boot", "attempt": 1, "took_s": 4.2, "detail": "running after 4.2 s"}
        ).decode()
        with closing(sqlite3.connect(self.home.database)) as database:
            first = database.execute("SELECT max(seq) FROM facts").fetchone()[0] + 1
            facts = ((first + n, 1.7e9 + n, f"w{n % 500}", f"m-{n % 3000}", f"up-{n // 20}", body) for n in range(rows))
            database.executemany("INSERT INTO facts VALUES (?, ?, 'step_done', ?, ?, ?, 'engine', ?)", facts)
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
