"""A real shell in the place of the console. One rule: whatever it leaves behind, the terminal is made whole afterwards.

The command line's own `ssh` runs as a process, so that the console and a script reach a machine in the same way.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from tui.screens.settings import environment_of

if TYPE_CHECKING:
    from tui.app import Console

RESET = (
    "\x1b[!p"  # soft reset: modes, margins, cursor keys
    "\x1b[?1049l"  # an alternate screen that a killed program left open
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l"  # mouse reports
    "\x1b[?2004l\x1b[?25h\x1b[0m\x1b(B"  # bracketed paste, cursor, colours, character set
    "\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b]112\x07"  # palette and default colours
    "\x1b]0;\x07"  # a title set by the remote side
)


def command(name: str) -> list[str]:
    """The process that is the shell."""
    return [sys.executable, "-m", "core.cli", "ssh", name]


async def shell(console: Console, name: str) -> None:
    """Step aside, run the shell on this workspace or machine, and come back. Says so where no terminal can be given."""
    try:
        with console.batch_update(), console.suspend(), _terminal_kept():
            code = await _run(console, name)
    except SuspendNotSupported:
        console.say("This console has no terminal of its own to give away: understudy ssh " + name, "warning")
        return
    if code == 0:
        console.say(f"back from {name}")
    else:
        console.say(f"The shell on {name} ended with {code}.", "warning")


async def _run(console: Console, name: str) -> int:
    environment = environment_of(console.engine.home)
    sys.stdout.write(f"understudy ssh {name}   exit comes back\r\n")
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(*command(name), env=environment)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Keeps ctrl+c from ending the console, and gives the terminal back as it was."""
    # a handler, not SIG_IGN: that would be inherited by the shell
    before = signal.signal(signal.SIGINT, lambda *_: None)
    fd = sys.__stdin__.fileno() if sys.__stdin__ is not None and sys.__stdin__.isatty() else None
    kept = termios.tcgetattr(fd) if fd is not None else None
    try:
        yield
    finally:
        if fd is not None and kept is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, kept)
        if sys.__stdout__ is not None and sys.__stdout__.isatty():
            sys.__stdout__.write(RESET)
            sys.__stdout__.flush()
        signal.signal(signal.SIGINT, before)
