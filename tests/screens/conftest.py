"""The console in a terminal that is the same everywhere, with an engine that says what a test tells it to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.domain import api
from core.domain.errors import EngineError
from core.domain.events import Fact
from core.domain.state import State
from tui.clock import Clock

os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", TZ="UTC")
os.environ.pop("NO_COLOR", None)

NOW = 1_790_000_000.0


class StillClock(Clock):
    """A clock that moves only when a test moves it."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class ScriptedEngine:
    """Says what it is told to, as the engine would: a hello, a snapshot, then deltas; `drop` ends the stream."""

    def __init__(self, state: State | None = None, *, lab: bool = False) -> None:
        self.state = state or State()
        self.lab = lab
        self.running = True
        self.readings: dict[str, Any] = {}
        self.markets: dict[str, Any] = {}
        self.facts: list[Fact] = []
        self.said: asyncio.Queue[api.Update | None] = asyncio.Queue()
        self.streams = 0

    async def hello(self) -> api.Hello:
        if not self.running:
            raise EngineError("The engine is not running.", hint="Start it with: understudy engine start.")
        return api.Hello(
            protocol=1,
            protocol_oldest=1,
            version="0.1.0",
            pid=1,
            started_at=NOW - 60,
            home="/home/op",
            lab=self.lab,
            owner="op",
        )

    async def stream(self, since: int = 0) -> AsyncIterator[api.Update]:
        yield await self.hello()
        self.streams += 1
        yield api.Snapshot(state=self.state, readings=self.readings, markets=self.markets)
        while True:
            update = await self.said.get()
            if update is None:
                raise EngineError("The engine closed the connection.", hint="Start it with: understudy engine start.")
            yield update

    async def journal(self, **_: Any) -> api.JournalPage:
        return api.JournalPage(facts=self.facts)

    def drop(self) -> None:
        self.running = False
        self.said.put_nowait(None)

    def tell(self, update: api.Update) -> None:
        self.said.put_nowait(update)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--snapshot-update", action="store_true", help="write the pictures that the screens now make")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Iterator[Callable[[Any, str], None]]:
    """Compares what is on the screen with the picture kept under this name; ``--snapshot-update`` keeps a new one."""
    folder = Path(__file__).parent / "pictures"

    def compare(app: Any, name: str) -> None:
        picture = "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips()) + "\n"
        path = folder / f"{name}.txt"
        if request.config.getoption("--snapshot-update", default=False):
            folder.mkdir(exist_ok=True)
            path.write_text(picture, "utf-8")
        assert path.exists(), f"no picture {name}; make it with --snapshot-update"
        assert picture == path.read_text("utf-8")

    return compare
