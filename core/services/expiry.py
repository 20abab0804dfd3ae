"""Ends what was rented with an end (`up --for`). The machine can end itself; this is the second hand on its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.domain.machines import Machine
from core.operations.context import Context

PERIOD_S = 1.0


@dataclass
class ExpiryWatch:
    """`end` is called once for every machine that is past its end and not condemned yet."""

    context: Context
    end: Callable[[Machine], Awaitable[None]]

    async def run(self) -> None:
        while True:
            now = self.context.clock()
            for machine in list(self.context.store.state.machines.values()):
                due = machine.expires_at is not None and machine.expires_at <= now
                if due and machine.state not in ("destroying", "destroyed", "failed"):
                    await self.end(machine)
            await asyncio.sleep(PERIOD_S)
