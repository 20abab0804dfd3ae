"""The two ports of each machine at the gate, direct and proxy.

One rule: the record says how they should be; this makes it so, and so again when the gate has to be started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from core.lab.links import GateLink, NoAnswer, end_process, open_or_spawn
from core.lab.records import Record, Records

DOORS = ("direct", "proxy")
FAULTS = {
    None: None,
    "drop": "drop",
    "link-down": "drop",
    "reset": "reset",
}  # what the lab calls it -> what the gate does
RETRY_S = 2.0


class Doors:
    """Owner of the gate process of one lab home."""

    def __init__(self, home: Path, records: Records, *, with_parent: bool) -> None:
        self._home = home
        self._records = records
        self._with_parent = with_parent
        self._link = GateLink(home)
        self._pid = 0
        self._guard: asyncio.Task[None] | None = None

    @property
    def gate_pid(self) -> int:
        """0 while there is none."""
        return self._pid

    async def start(self) -> None:
        """Start or adopt the gate. Raises OSError."""
        await self._raise_gate()
        self._guard = asyncio.create_task(self._watch())

    async def _raise_gate(self) -> None:
        await self._link.close()
        is_new = await open_or_spawn(
            self._link, "core.lab.gate", self._home, "gate.sock", with_parent=self._with_parent
        )
        self._pid = int((await self._link.request("hello"))["pid"])
        if is_new:
            for record in self._records.all():
                await self.open(record)

    async def _watch(self) -> None:
        """A gate that dies takes connections along, not ports: the next one opens the same."""
        while True:
            with contextlib.suppress(NoAnswer):
                await self._link.wait_closed()
            self._pid = 0
            with contextlib.suppress(OSError):  # tried again at the next turn
                await self._raise_gate()
                continue
            await asyncio.sleep(RETRY_S)

    async def open(self, record: Record) -> Record:
        """Both ports, at their old numbers where these are free; returns the record with the ports that they are."""
        ports = []
        for door, wanted in zip(DOORS, record.ports, strict=True):
            fields = {"key": f"{record.id}/{door}", "host": "127.0.0.1", "target": ["127.0.0.1", record.target_port]}
            try:
                answer = await self._link.request("open", port=wanted, **fields)
            except NoAnswer:
                raise
            except OSError:  # someone else has that port now
                answer = await self._link.request("open", port=0, **fields)
            ports.append(int(answer["address"][1]))
        record = self._records.put(replace(record, ports=(ports[0], ports[1])))
        await self.apply(record)
        return record

    async def _each(self, record: Record, requests: Callable[[str], Iterable[dict[str, object]]]) -> None:
        for door in DOORS:
            for request in requests(f"{record.id}/{door}"):
                await self._link.request(**request)  # type: ignore[arg-type]

    async def apply(self, record: Record) -> None:
        """Fault, latency and rate as the record has them. A machine that never booted has no doors: OSError."""
        await self._each(
            record,
            lambda key: (
                {"op": "shape", "key": key, "latency_s": record.latency_s, "bytes_per_s": record.bytes_per_s},
                {"op": "fault", "key": key, "fault": FAULTS[record.fault]},
            ),
        )

    async def aim(self, record: Record) -> None:
        """Lead to the record's target from now on; existing connections are reset."""
        target = ["127.0.0.1", record.target_port]
        await self._each(record, lambda key: ({"op": "target", "key": key, "target": target},))

    async def close_of(self, machine_id: str) -> None:
        """The machine's ports close; silent when it has none."""
        for door in DOORS:
            await self._link.request("close", key=f"{machine_id}/{door}")

    async def close(self, *, leave_running: bool) -> None:
        if self._guard:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
        if self._pid and not leave_running:
            await end_process(self._pid)
        await self._link.close()
