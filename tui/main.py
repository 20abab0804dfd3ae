"""The console's entry. Its one rule: the first picture stands before the toolkit is imported, and every way
out restores the terminal and leaves at most one sentence.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tui import splash

if TYPE_CHECKING:
    from core.home import Home

DUMB = "This terminal (TERM=dumb) cannot show the console. The command line does everything: understudy --help."
NO_TERMINAL = "The console needs a terminal. The command line does everything: understudy --help."


def run(
    home: Home,
    *,
    theme: str | None = None,
    ascii_only: bool | None = None,
    mouse: bool = True,
    keys: Mapping[str, Any] | None = None,
) -> int:
    """Open the console of a home and return its exit code.

    ``theme`` None is the default one; ``ascii_only`` None follows the locale; ``keys`` is the ``[keys]`` table of the
    configuration, action ids to keys.
    """
    refusal = _refusal(os.environ)
    if refusal:
        sys.stderr.write(refusal + "\n")
        return 2
    splashed = splash.paint()
    gc.disable()  # nothing that starting makes is garbage; the console turns it on when the first picture stands
    try:
        console = _console(home, theme, _ascii(ascii_only, os.environ), keys)
    except BaseException:
        if splashed:
            splash.take_back()
        raise
    return console.run(mouse=mouse) or console.return_code or 0


def _console(home: Home, theme: str | None, ascii_only: bool, keys: Mapping[str, Any] | None) -> Any:
    environment = dict(os.environ)  # Textual takes NO_COLOR out of the real one
    from tui.app import Console

    def engine() -> Any:
        from core.client import EngineClient

        return EngineClient(home)

    return Console(
        engine,
        theme=theme,
        user_themes=home.themes,
        keys=keys,
        ascii_only=ascii_only,
        home=home,
        environment=environment,
        stands=_collect_again,
    )


def _collect_again() -> None:
    gc.freeze()
    gc.enable()


def _refusal(environment: Mapping[str, str]) -> str:
    if environment.get("TERM") == "dumb":
        return DUMB
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return NO_TERMINAL
    return ""


def _ascii(wanted: bool | None, environment: Mapping[str, str]) -> bool:
    """Whether to keep to ASCII: when asked, or where the locale is not UTF-8."""
    if wanted is not None:
        return wanted
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    return bool(locale) and locale not in ("C", "POSIX") and "utf" not in locale.lower()


def main() -> int:
    """``python -m tui``: the console of the home that the environment names."""
    from core.home import find

    return run(find())
