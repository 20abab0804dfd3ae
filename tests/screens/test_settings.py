"""What is chosen in the console is there at its next start."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.config import load
from core.home import Home
from tests.screens.conftest import ScriptedEngine, StillClock
from tui.app import Console
from tui.screens.base import Opening

PATIENCE_S = 30.0


async def chosen(home: Home, name: str) -> Console:
    engine = ScriptedEngine()
    console = Console(lambda: engine, clock=StillClock(), home=home, environment={})  # type: ignore[arg-type,return-value]
    async with console.run_test(size=(100, 30)) as pilot:
        async with asyncio.timeout(PATIENCE_S):
            while isinstance(console.screen, Opening):
                await pilot.pause(0.05)
        await pilot.press("colon", *f"theme {name}", "enter")
        async with asyncio.timeout(PATIENCE_S):
            while not any("kept" in note.message for note in console._notifications):
                await pilot.pause(0.05)
    return console


async def test_a_theme_is_kept_by_the_command_line_in_the_configuration(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path).create()
    home.config_file.write_text("# mine\n[console]\nmouse = false\n", "utf-8")
    console = await chosen(home, "paper")
    assert console.theme == "paper"
    assert load(home).settings.console.theme == "paper"
    assert "# mine" in home.config_file.read_text("utf-8")


async def test_a_configuration_that_cannot_be_written_is_a_sentence_and_the_colours_change_all_the_same(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path, tmp_path).create()
    home.config_file.mkdir()
    console = await chosen(home, "okabe")
    assert console.theme == "okabe"
    assert any("could not be kept" in note.message for note in console._notifications)
