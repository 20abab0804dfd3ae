"""`understudy demo`: an embedded cloud, an engine, a rented machine with something real running, and the console.

One rule: it leaves nothing behind, however it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from core import labfile, launch
from core.cli import follow
from core.cli.demo_home import DemoHome
from core.cli.output import seconds
from core.cli.session import Session, Verb, is_terminal, operation_id, pass_session
from core.cli.ssh import terminal_restored
from core.cli.workload import start_training
from core.client import EngineClient
from core.config import KEYS, set_value
from core.domain import api
from core.domain.errors import IntentRefused, UnderstudyError
from core.domain.workspaces import UpSpec
from core.home import Home
from core.home import find as find_home

WORKSPACE = "demo"
GPU = "RTX 4090"
BOOT_S = 3.0
SEED = 7
# A lab answers at once, so that it can be asked more often than a real provider's API allows.
SETTINGS = {"vast.poll_s": "5", "vast.account_poll_s": "1"}
HINT = "Next: 4 machines, enter opens one, s a shell on it, 2 the market, ? help, q leaves and ends it all."
POLL_S = 0.2


class Told(BaseException):
    """The demo was told to end; not an error."""


@click.command(cls=Verb)
@click.option("--headless", is_flag=True, help="No console: one JSON line when ready, then stay until interrupted.")
@click.option("--seed", type=click.IntRange(min=0), default=SEED, show_default=True, help="Which world.")
@pass_session
def demo(session: Session, headless: bool, seed: int) -> None:
    """Try everything in an embedded cloud: no account, no cost, and nothing left behind.

    It has a home of its own, which is removed at the end; with --home that must be a new or an empty directory.
    """
    headless = headless or session.json
    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise IntentRefused("The console needs a terminal.", hint="For scripts: understudy demo --headless.")
    for key in KEYS.values():
        os.environ.pop(key.environment, None)  # a world of its own: above all not the operator's own database
    home = find_home(_own_directory(session.home_argument))
    with told_to_end(), DemoHome(home) as place:
        try:
            _run(home, place, headless=headless, seed=seed)
        except (Told, KeyboardInterrupt):
            _line("ending", None)


def _own_directory(argument: str | None) -> str:
    """A short path: a socket's may not be longer than about a hundred bytes."""
    if argument is None:
        return tempfile.mkdtemp(prefix="understudy-demo-")
    path = Path(argument).expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise IntentRefused(
            f"{path} is not empty, and a demo's home is removed at its end.", hint="Name a new directory, or none."
        )
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(path)


@contextmanager
def told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as ctrl-c does: everything goes down in order."""

    def told(number: int, _: FrameType | None) -> None:
        raise Told(number)

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(home: Home, place: DemoHome, *, headless: bool, seed: int) -> None:
    began = time.monotonic()
    for key, value in SETTINGS.items():
        set_value(home, key, value)
    lab = place.add(
        launch.start_lab(home, seed=seed, boot_s=BOOT_S, speed=1.0, pacing="off", with_parent=True), last=True
    )
    engine = place.add(launch.start_engine(home, with_parent=True))
    info = launch.wait_lab(home, lab)
    _line("lab", began, "an embedded cloud on this machine; nothing here costs money")
    launch.wait_engine(home, engine)
    _line("engine", began, f"its home is {home.state}, removed at the end")
    session = Session(home_argument=str(home.state), yes=True)
    client = EngineClient(home)
    intent = api.UpIntent(operation=operation_id("up"), name=WORKSPACE, spec=UpSpec(gpu=GPU))
    accepted = session.send(lambda: client.up(intent))
    if headless:
        _bring_up(session, client, accepted.operation, began)
        session.out.line(_ready(home, info))
        while True:
            time.sleep(POLL_S)
    _line("workspace", began, f"one {GPU} asked for; it boots while you look")
    print(HINT, flush=True)
    _console(session, client, place, accepted.operation)


def _bring_up(session: Session, client: EngineClient, operation: str, began: float | None) -> None:
    """Waits for the machine, then starts something real on it. Raises UnderstudyError."""
    follow.check(follow.to_end(session, operation))
    _line("machine", began, "rented, booted, judged, ready")
    start_training(session.run(client.endpoint(WORKSPACE)))
    _line("training", began, "a small real training runs on it")


def _console(session: Session, client: EngineClient, place: DemoHome, operation: str) -> None:
    """The console as a process of its own, so that this one stays free to go on, and to clean up."""
    failure: UnderstudyError | None = None
    with terminal_restored(), place.console(session.home) as process, silent(session.home):
        quiet = Session(home_argument=session.home_argument, json=True, yes=True)
        try:
            _bring_up(quiet, client, operation, None)
        except UnderstudyError as e:
            failure = e
        while process.poll() is None:
            time.sleep(POLL_S)
    if failure is not None:
        raise failure


@contextmanager
def silent(home: Home) -> Iterator[None]:
    """While the console has the terminal, what this process would say on it goes into a file of the home."""
    sys.stderr.flush()
    kept = os.dup(sys.stderr.fileno())
    file = os.open(home.state / "demo.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, sys.stderr.fileno())
    os.close(file)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, sys.stderr.fileno())
        os.close(kept)


def _ready(home: Home, info: labfile.LabInfo) -> dict[str, Any]:
    return {
        "home": str(home.state),
        "socket": str(home.socket),
        "workspace": WORKSPACE,
        "endpoints": {**info.endpoints, "control": info.control},
    }


def _line(what: str, began: float | None, more: str = "") -> None:
    """One line for each thing that comes up, with its seconds, when someone looks."""
    if is_terminal():
        took = "" if began is None else seconds(time.monotonic() - began) or ""
        print(f"  {what:<10} {took:>6}  {more}".rstrip(), file=sys.stderr, flush=True)
