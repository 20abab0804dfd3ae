"""Every screen in every state worth a picture, by name: what was there before, and the keys that lead to it.

One rule: a state is reached as an operator reaches it, by what the engine says and by keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.screens.days import Made, booting, empty, failing_market, full, planned, refused, working
from tests.screens.scenario import Scenario
from tests.screens.stage import Stage, stage

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Picture:
    """One state: what happened (`make`), the keys pressed, and what keys cannot do: time, an engine's end (`act`)."""

    make: Callable[[], Made]
    keys: tuple[str, ...] = ()
    act: Act | None = None
    running: bool = True
    hero: bool = False


async def engine_gone(on: Stage) -> None:
    """The engine ends while the console is open; half a minute goes by."""
    await on.engine.stop()
    await on.until(lambda: on.console.model.connection.state == "stale", "stale")
    on.clock.offset = 31.0
    await on.settle()


async def never_there(on: Stage) -> None:
    await on.until(lambda: on.console.model.connection.state == "gone", "gone")
    await on.settle()


async def rented(on: Stage) -> None:
    """Enter on the sheet, then what the engine says of it: a host that lies, and the next one."""
    await on.press("enter")
    s = on.scenario
    asked = [body for path, body in on.engine.asked if path == "/intents/up"]
    operation, name = asked[0]["operation"], asked[0]["name"]
    before = s.state.seq
    s.say("operation_started", operation=operation, workspace=name, actor="ops", kind="rent")
    s.step(operation, "choose an offer", 0.4, "1x RTX 4090, NO, $0.358/h, host 40017", name)
    s.step(operation, "ask for it", 1.2, "accepted as 20481190", name)
    s.step(operation, "boot", 9.4, "running", name)
    s.step(operation, "reach it by SSH", 0.8, "127.0.0.1:40022", name)
    s.step(operation, "start the agent", 0.6, "agent 0.1.0", name)
    lie = "The driver is 535.183.01; 570.86.15 was advertised."
    s.step(operation, "check it against its offer", 2.1, lie, name, ok=False)
    s.step(operation, "give it back", 0.9, "accepted; finding out cost $0.0021", name)
    s.step(operation, "choose an offer", 0.2, "1x RTX 4090, SE, $0.371/h, host 40155", name)
    s.step(operation, "ask for it", 1.1, "accepted as 20481191", name)
    s.step(operation, "boot", None, workspace=name)
    s.pass_time(4.2)
    await on.tell(before)


async def later(on: Stage) -> None:
    """Twelve seconds without a reading."""
    on.clock.offset = 12.0
    await on.settle()


async def narrowed(on: Stage) -> None:
    await on.press("slash", *"gpu:4090", "space", *"$<0.45", "space", "e", "u", "enter")


PICTURES: dict[str, Picture] = {
    "overview-full": Picture(full, hero=True),
    "overview-working": Picture(working, hero=True),
    "overview-empty": Picture(empty),
    "overview-gone": Picture(empty, act=never_there, running=False),
    "overview-stale": Picture(working, act=engine_gone),
    "overview-renting": Picture(booting),
    "overview-old-reading": Picture(working, act=later),
    "market-full": Picture(planned, ("2",), hero=True),
    "market-filtered": Picture(planned, ("2",), narrowed),
    "market-no-match": Picture(planned, ("2", "slash", *"gpu:h900", "enter")),
    "market-empty": Picture(empty, ("2",)),
    "market-failed": Picture(failing_market, ("2",)),
    "market-stale": Picture(planned, ("2",), engine_gone),
    "market-offer": Picture(planned, ("2", "down", "enter"), hero=True),
    "rent-plan": Picture(planned, ("2", "r", *"8h"), hero=True),
    "rent-refused": Picture(refused, ("2", "r")),
    "rent-timeline": Picture(planned, ("2", "r"), rented, hero=True),
    "machines-full": Picture(full, ("4",), hero=True),
    "machines-empty": Picture(empty, ("4",)),
    "machines-stale": Picture(full, ("4",), engine_gone),
    "machines-filtered": Picture(full, ("4", "slash", *"risk", "enter")),
    "machines-destroy": Picture(full, ("4", "end", "up", "x")),
    "machines-destroy-many": Picture(full, ("4", "asterisk", "x")),
    "machine-working": Picture(working, ("4", "enter"), hero=True),
    "machine-old-reading": Picture(working, ("4", "enter"), later),
    "machine-booting": Picture(booting, ("4", "home", "enter")),
    "machine-fault": Picture(working, ("4", "L")),
    "log-full": Picture(full, ("0",), hero=True),
    "log-empty": Picture(lambda: (Scenario(), ()), ("0",)),
    "log-filtered": Picture(full, ("0", "slash", *"warn", "enter")),
    "log-of-a-row": Picture(full, ("4", "e")),
}


@asynccontextmanager
async def shown(
    name: str, size: tuple[int, int], *, theme: str | None = None, ascii_only: bool = False
) -> AsyncIterator[Stage]:
    """The console in this state."""
    picture = PICTURES[name]
    scenario, past = picture.make()
    async with stage(scenario, size, past=past, theme=theme, ascii_only=ascii_only, running=picture.running) as on:
        for key in picture.keys:
            await on.pilot.press(key)
        await on.settle()
        if picture.act is not None:
            await picture.act(on)
        yield on
