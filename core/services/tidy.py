"""Keeps the picture small: what ended a month ago leaves it, and DBOS forgets what it finished. Facts stay for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.domain.events import Said
from core.domain.state import State
from core.domain.units import rfc3339
from core.operations import durable
from core.operations.context import Context

KEPT_S = 30 * 86400.0
PERIOD_S = 86400.0
FIRST_S = 120.0


@dataclass
class Tidy:
    context: Context

    async def run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            before = self.context.clock() - KEPT_S
            if _anything(self.context.store.state, before):
                await self.context.store.say(Said(kind="picture_tidied", detail={"before": before}))
            await durable.forget_older_than(rfc3339(before) or "")
            await asyncio.sleep(PERIOD_S)


def _anything(state: State, before: float) -> bool:
    return any(o.ended_at is not None and o.ended_at < before for o in state.operations.values())
