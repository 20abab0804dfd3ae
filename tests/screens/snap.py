"""Every screen in every state as pictures: `python -m tests.screens.snap FOLDER [NAME...]`.

One rule: the same states that the tests hold to their text. SVG always, PNG where `rsvg-convert` is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.screens.frame_states import EVERY as PICTURES
from tests.screens.frame_states import standing as shown

SIZES = ((80, 24), (120, 36))
HERO_SIZES = ((60, 15), (80, 24), (120, 36), (200, 60))
THEMES = ("dusk", "paper")


async def draw(folder: Path, name: str) -> int:
    """All sizes and themes of one state; how many pictures it made."""
    made = 0
    for columns, rows in HERO_SIZES if PICTURES[name].hero else SIZES:
        for theme in THEMES if PICTURES[name].hero else THEMES[:1]:
            async with shown(name, (columns, rows), theme=theme) as on:
                # without this the spaces between the words of a line fall together
                svg = on.svg().replace("<text ", '<text xml:space="preserve" ')
            path = folder / f"{name}_{theme}_{columns}x{rows}.svg"
            path.write_text(svg, "utf-8")
            made += 1
    return made


def convert(folder: Path) -> None:
    """PNG beside each SVG."""
    tool = shutil.which("rsvg-convert")
    if tool is None:
        sys.stdout.write("rsvg-convert is not installed: SVG only.\n")
        return
    for path in sorted(folder.glob("*.svg")):
        subprocess.run([tool, "-o", str(path.with_suffix(".png")), str(path)], check=True, timeout=60)


def main(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write("python -m tests.screens.snap FOLDER [NAME...]\n")
        return 2
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
    os.environ.pop("NO_COLOR", None)
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    made = 0
    for name in arguments[1:] or PICTURES:
        made += asyncio.run(draw(folder, name))
        sys.stdout.write(f"{name}\n")
    convert(folder)
    sys.stdout.write(f"{made} pictures in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
