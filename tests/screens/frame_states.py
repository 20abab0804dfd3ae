"""What opens over a panel, as pictures: help, menu, palette, command bar, drawer, pause, questions.

One rule: as in `states`, each is reached by keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.screens.days import full, working
from tests.screens.stage import Stage, stage
from tests.screens.states import PICTURES, Picture


async def held(on: Stage) -> None:
    """Twelve seconds of pause."""
    await on.press("p")
    on.clock.offset = 12.0
    await on.settle()


async def asked_to_quit(on: Stage) -> None:
    """Quit while something that was started here runs."""
    running = next(one for one in on.console.model.state.operations.values() if one.state == "running")
    on.console.started.add(running.id)
    await on.press("q")


async def typed(on: Stage) -> None:
    """A half-typed command, completed."""
    await on.press("colon", *"dest", "tab", "space")


async def chosen(on: Stage) -> None:
    """The palette with a few letters."""
    await on.press("ctrl+p")
    await on.until(lambda: "(s)" in on.text(), "the palette's lines")
    await on.press(*"thm")
    await on.until(lambda: "theme ansi16" in on.text(), "the palette's hits")


async def news(on: Stage) -> None:
    """Unread events, not looked at."""
    seq = on.console.model.state.seq
    on.scenario.say(
        "machine_refused", machine="m-k3j9x2qa", reason="the driver is older than advertised", cost_usd=0.002
    )
    await on.tell(seq)


FRAME: dict[str, Picture] = {
    "frame-help": Picture(full, ("4", "question_mark"), hero=True),
    "frame-help-search": Picture(full, ("4", "question_mark", *"copy")),
    "frame-menu": Picture(full, ("4", "a")),
    "frame-palette": Picture(full, ("4",), chosen),
    "frame-command": Picture(full, ("4",), typed),
    "frame-drawer": Picture(full, ("4", "exclamation_mark")),
    "frame-news": Picture(working, (), news),
    "frame-paused": Picture(working, (), held),
    "frame-quit": Picture(full, (), asked_to_quit),
    "frame-zoomed": Picture(full, ("4", "z")),
}

EVERY: dict[str, Picture] = {**PICTURES, **FRAME}


@asynccontextmanager
async def standing(
    name: str, size: tuple[int, int], *, theme: str | None = None, ascii_only: bool = False
) -> AsyncIterator[Stage]:
    """The console in a state of the panels or of the frame."""
    picture = EVERY[name]
    scenario, past = picture.make()
    async with stage(scenario, size, past=past, theme=theme, ascii_only=ascii_only, running=picture.running) as on:
        for key in picture.keys:
            await on.pilot.press(key)
        await on.settle()
        if picture.act is not None:
            await picture.act(on)
        yield on
