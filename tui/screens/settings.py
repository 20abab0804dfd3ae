"""What the console keeps for its next start. One rule: the command line writes the configuration; this asks it to.

A process, so that the file is written in one place only, and a configuration that cannot be written is a sentence.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.home import Home
    from tui.app import Console


def environment_of(home: Home) -> dict[str, str]:
    """The environment in which the command line finds the same home."""
    environment = dict(os.environ)
    if home.config == home.state:
        environment["UNDERSTUDY_HOME"] = str(home.state)
    return environment


async def keep(home: Home, key: str, value: str) -> str:
    """Write a setting into the home's config.toml; returns what went wrong, empty when it is written."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "core.cli", "config", "set", key, value),
        env=environment_of(home),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"understudy config set ended with {process.returncode}"


async def choose_theme(console: Console, name: str) -> None:
    """Change the colours at once; a console with a home keeps them for its next start."""
    if console.colourless:
        console.say("NO_COLOR is set, so there are no colours to change.", "warning")
        return
    if name not in console.theme_names:
        console.say(f"Themes: {', '.join(console.theme_names)}.", "warning" if name else "information")
        return
    console.theme = name
    if console.home is not None:
        console.run_worker(_keep_theme(console, console.home, name), group="settings", exclusive=True)


async def _keep_theme(console: Console, home: Home, name: str) -> None:
    problem = await keep(home, "console.theme", name)
    if problem:
        console.say(f"The theme is {name} until you leave; it could not be kept: {problem}", "warning")
    else:
        console.say(f"theme {name}, kept for the next start")
