"""Keeps the newest reading of every machine and, every ten seconds, one point of each for the history.

One rule: a full or broken history loses points, never a reading and never the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from core.domain.errors import StoreError
from core.domain.readings import MachineReading, TelemetryPoint, point
from core.services.ring import Ring
from core.store.history import History

KEEP_EVERY_S = 10.0
RING = 900  # one-second points of the last 15 minutes, in memory, for the curves of a console that opens now

log = logging.getLogger("understudy.telemetry")


@dataclass
class Telemetry:
    history: History
    clock: Callable[[], float]
    rings: dict[str, Ring] = field(default_factory=dict)
    _pending: dict[str, TelemetryPoint] = field(default_factory=dict)

    def take(self, machine_id: str, reading: MachineReading) -> None:
        made = point(reading)
        ring = self.rings.get(machine_id)
        if ring is None:
            ring = self.rings[machine_id] = Ring(RING)
        ring.add(made)
        self._pending[machine_id] = made

    def forget(self, machine_id: str) -> None:
        self.rings.pop(machine_id, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            rows, self._pending = list(self._pending.items()), {}
            try:
                await self.history.telemetry_add(rows, self.clock())
            except StoreError as e:
                log.warning("telemetry not kept: %s", e)

    async def since(self, machine_id: str, since_at: float) -> list[TelemetryPoint]:
        """Second by second where the ring has it, ten-second points before that."""
        ring = self.rings.get(machine_id)
        newest = ring.since(since_at) if ring is not None else []
        oldest = newest[0].at if newest else float("inf")
        older = await self.history.telemetry(machine_id, since_at)
        return [p for p in older if p.at < oldest] + newest
