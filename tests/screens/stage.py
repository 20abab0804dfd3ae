"""A console on a scenario: the real application and client, a still clock, a terminal of any size.

One rule: what is drawn depends on the scenario, the keys and the size alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from core.client import EngineClient
from core.domain import api
from core.home import Home
from tests.screens.scenario import Scenario
from tests.screens.socket_engine import SocketEngine
from tui.app import Console
from tui.clock import Clock

SETTLED_TURNS = 400


class SceneClock(Clock):
    """The scenario's clock."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.offset = 0.0

    def now(self) -> float:
        return self.scenario.now + self.offset

    def monotonic(self) -> float:
        return self.scenario.now + self.offset


class Stage:
    """A console in front of an engine."""

    def __init__(self, console: Console, pilot: Pilot[Any], engine: SocketEngine, clock: SceneClock) -> None:
        self.console = console
        self.pilot = pilot
        self.engine = engine
        self.scenario = engine.scenario
        self.clock = clock

    async def until(self, holds: Callable[[], bool], what: str = "what was waited for") -> None:
        """Pulses until it holds; the console's own timers stand still for a still clock only in what they show."""
        for _ in range(SETTLED_TURNS):
            if holds():
                return
            await asyncio.sleep(0.01)
            self.console.pulse()
            await self.pilot.pause()
        raise AssertionError(f"{what} did not come; on the screen:\n{self.text()}")

    async def live(self) -> None:
        await self.until(lambda: self.console.model.connection.state == "live", "a live connection")
        await self.settle()

    async def settle(self) -> None:
        """Everything that was asked is answered and painted."""
        for _ in range(6):
            self.console.pulse()
            self.console.tick()
            panel = self.console.panel
            if panel is not None and panel.is_mounted:
                panel.pulse_slowly(panel.topics)
            await self.pilot.pause()
            await asyncio.sleep(0.01)
        running = [w for w in self.console.workers if w.group != "bridge" and not w.is_finished]
        for _ in range(SETTLED_TURNS):
            if not [w for w in running if not w.is_finished]:
                break
            await asyncio.sleep(0.01)
        await self.pilot.pause()

    async def resize(self, columns: int, rows: int) -> None:
        """Another window, and everything painted in it."""
        if self.console.size != (columns, rows):
            await self.pilot.resize_terminal(columns, rows)
            await self.settle()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def tell(self, since: int) -> None:
        self.engine.tell_facts(since)
        await self.until(lambda: self.console.model.state.seq >= self.scenario.state.seq, "the facts")
        await self.settle()

    def text(self) -> str:
        """What the terminal shows."""
        strips = self.console.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips) + "\n"

    def said(self) -> str:
        """The notes that are shown, the newest last."""
        return "\n".join(note.message for note in self.console._notifications)

    def svg(self) -> str:
        return self.console.export_screenshot(title="")


@asynccontextmanager
async def stage(
    scenario: Scenario,
    size: tuple[int, int] = (120, 36),
    *,
    past: Sequence[api.Delta] = (),
    theme: str | None = None,
    ascii_only: bool = False,
    running: bool = True,
) -> AsyncIterator[Stage]:
    """The console on this scenario, live and settled. `past`: deltas that came before now, for the curves."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="us-") as folder:
        home = Home(Path(folder), Path(folder))
        engine = SocketEngine(scenario, home)
        if running:
            await engine.start()
        clock = SceneClock(scenario)
        console = Console(lambda: EngineClient(home), theme=theme, ascii_only=ascii_only, clock=clock, environment={})
        console.animation_level = "none"
        for delta in past:
            console.model.take_delta(delta)
        try:
            async with console.run_test(size=size) as pilot:
                on = Stage(console, pilot, engine, clock)
                await on.until(lambda: console.panel is not None and console.panel.is_mounted, "the first panel")
                if running:
                    await on.live()
                await on.settle()
                yield on
                # run_test takes the screens down while the timers still run; the console's own way out stops them first
                for timer in list(console._timers):
                    timer.stop()
        finally:
            await engine.stop()
