"""The picture of the README: `python -m tests.journeys.picture FILE.svg` draws the console on a running demo.

One rule: nothing in it is staged. A demo is started, two more machines are rented and given the same work, and after a
minute the real console draws what it shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from core.cli.workload import start_training
from core.client import EngineClient
from core.home import Home, find
from tui.app import Console

SIZE = (120, 36)
WATCHED_S = 75.0  # a minute of history, and some
RENTED = (("sweep", "RTX 3090"), ("eval", "RTX 4090"))
# the toolkit's pictures ask a foreign host for their font; a reader's own fixed-width font will do
FOREIGN_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def understudy(*words: str) -> list[str]:
    return [sys.executable, "-m", "core.cli", *words]


def work(home: Home) -> None:
    """More machines, with a training on each."""
    ups = [
        subprocess.Popen(understudy("--home", str(home.state), "up", name, "--gpu", gpu, "--yes"))
        for name, gpu in RENTED
    ]
    for up, (name, _) in zip(ups, RENTED, strict=True):
        if up.wait() == 0:
            start_training(asyncio.run(EngineClient(home).endpoint(name)))


async def draw(home: Home) -> str:
    """The console of this home after it has watched for a while, as SVG."""
    console = Console(lambda: EngineClient(home), home=home, environment={})
    console.animation_level = "none"
    async with console.run_test(size=SIZE) as pilot:
        await asyncio.sleep(WATCHED_S)
        await pilot.press("g")
        await asyncio.sleep(1.0)
        await pilot.pause()
        picture = console.export_screenshot(title="understudy")
    # without this the spaces between the words of a line fall together
    return FOREIGN_FONTS.sub("", picture).replace("<text ", '<text xml:space="preserve" ')


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("python -m tests.journeys.picture FILE.svg\n")
        return 2
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
    os.environ.pop("NO_COLOR", None)
    demo = subprocess.Popen(understudy("demo", "--headless"), stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        about = json.loads(demo.stdout.readline())
        work(find(about["home"]))
        picture = asyncio.run(draw(find(about["home"])))
    finally:
        demo.terminate()
        demo.wait()
    Path(arguments[0]).write_text(picture, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
