"""Time and effects. Its one rule: what the world has decided is saved before anything real happens to a machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from core.lab.home import LabHome
from core.lab.machines import Machines
from core.lab.state import Effect
from core.lab.world import World

PUMP_S = 0.05
RETRY_S = 1.0
_log = logging.getLogger(__name__)


class Pump:
    """Lets the world's time pass and carries out its effects: one at a time per contract, all contracts at once."""

    def __init__(self, world: World, machines: Machines, home: LabHome) -> None:
        self._world = world
        self._machines = machines
        self._home = home
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._not_before: dict[int, float] = {}
        self._broken: BaseException | None = None
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled, or until an act breaks in a way that nobody foresaw."""
        while True:
            if self._broken is not None:
                raise self._broken
            self._wake.clear()
            self._world.tick()
            self.save()
            self._begin()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PUMP_S)

    def save(self) -> None:
        """Write the world down if it changed."""
        if self._world.changed:
            self._world.changed = False
            self._home.save(self._world.snapshot())

    def wake(self) -> None:
        """There may be something to do now."""
        self._wake.set()

    def _begin(self) -> None:
        now = asyncio.get_running_loop().time()
        for effect in self._world.state.pending:
            number = effect.contract_id
            if number not in self._busy and self._not_before.get(number, 0.0) <= now:
                self._busy[number] = task = asyncio.create_task(self._carry_out(effect))
                task.add_done_callback(self._look)

    async def _carry_out(self, effect: Effect) -> None:
        """One act. What the system refuses is tried again: an unstopped machine must not be forgotten."""
        number = effect.contract_id
        try:
            await self._machines.carry_out(effect)
        except (OSError, TimeoutError) as error:
            _log.warning("%s of machine %s, to be tried again: %s", effect.kind, number, error)
            self._not_before[number] = asyncio.get_running_loop().time() + RETRY_S
            return
        finally:
            del self._busy[number]
            self._wake.set()
        self._not_before.pop(number, None)
        if effect in self._world.state.pending:
            self._world.state.pending.remove(effect)
        self._world.changed = True

    def _look(self, task: asyncio.Task[None]) -> None:
        """Keep what an act met that nobody foresaw: the lab ends with it, loudly."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self._wake.set()

    async def finish(self) -> None:
        """Wait for the acts under way, then save."""
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
        self.save()
