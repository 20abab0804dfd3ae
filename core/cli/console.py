"""Bare `understudy`: the console, in this process. One rule: it paints first; the engine starts beside it."""

from __future__ import annotations

import importlib
import sys

from core.cli.session import Session
from core.config import load
from core.domain.errors import IntentRefused
from core.launch import Started, probe, start_engine, wait_engine


def open_console(session: Session) -> int:
    """Opens the console of the home and returns its exit status when it is left. Raises IntentRefused, EngineError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise IntentRefused(
            "The console needs a terminal.", hint="For scripts: understudy status --json; all verbs: understudy --help."
        )
    started = None if probe(session.home) is not None else start_engine(session.home)
    status = run_console(session)
    _last_words(session, started)
    return status


def run_console(session: Session) -> int:
    """The console on this terminal; whether an engine answers, it finds out and shows itself."""
    loaded = load(session.home)
    look = loaded.settings.console
    for problem in loaded.problems:
        session.out.note(f"▲ {problem}")
    console = importlib.import_module("tui.main")  # by name: nothing else here may know the console
    status: int = console.run(
        session.home,
        theme=look.theme,
        ascii_only=look.ascii or None,
        mouse=look.mouse,
        keys=loaded.settings.keys,
    )
    return status


def _last_words(session: Session, started: Started | None) -> None:
    """An engine that we started and that did not live says why, now that the terminal is ours again."""
    if started is not None and started.process.poll() is not None:
        wait_engine(session.home, started, wait_s=0)
