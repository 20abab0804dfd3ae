"""`understudy engine`: the daemon behind it all."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from core.cli import unit
from core.cli.output import seconds
from core.cli.session import Noun, Session, pass_session
from core.client import EngineClient
from core.domain.errors import EngineError
from core.launch import ensure_engine, environment, probe, stop_engine


@click.group(cls=Noun)
def engine() -> None:
    """The daemon: it watches machines, survives the terminal, and is started by any verb that needs it."""


@engine.command("start")
@pass_session
def start(session: Session) -> None:
    """Start it when it does not run."""
    ensure_engine(session.home)
    _answer(session)


@engine.command("status")
@pass_session
def status(session: Session) -> None:
    """Whether it runs, since when, and what it does."""
    _answer(session)


@engine.command("stop")
@pass_session
def stop(session: Session) -> None:
    """Stop it. Machines keep running and billing; operations go on when it starts again."""
    pid = stop_engine(session.home)
    found = {"state": "stopped", "pid": None, "was_pid": pid}
    text = "It was not running." if pid is None else "Stopped. Machines keep running; so do their costs."
    session.out.document(found, lambda: session.out.say(text))


@engine.command("run")
@pass_session
def run(session: Session) -> None:
    """Run it in the foreground, for a service manager."""
    arguments = [sys.executable, "-P", "-m", "core.engine", "run"]
    if session.home.config == session.home.state:
        arguments += ["--home", str(session.home.state)]
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment())  # noqa: S606 - no shell is what is wanted: it becomes the engine


@engine.command("install-service")
@click.option("--dry-run", is_flag=True, help="Show the unit; write nothing.")
@pass_session
def install_service(session: Session, dry_run: bool) -> None:
    """Have systemd keep it running for this user, also when nobody is logged in."""
    text, path = unit.text(session.home), unit.path(session.home)
    session.out.note(f"# {path}\n{text}")
    done: list[str] = []
    if not dry_run:
        session.confirm(f"Write it to {path} and start it?")
        stop_engine(session.home)
        done = unit.install(path, text)
    document = {"path": str(path), "unit": text, "installed": not dry_run, "commands": done}
    people = "Nothing was written." if dry_run else f"Installed. {unit.LINGER_HINT}"
    session.out.document(document, lambda: session.out.say(people))


def _answer(session: Session) -> None:
    found = _found(session)
    pairs = [(k.replace("_", " "), seconds(v) if k == "uptime_s" else v) for k, v in found.items()]
    session.out.document(found, lambda: session.out.fields(pairs))


def _found(session: Session) -> dict[str, Any]:
    hello = probe(session.home)
    found: dict[str, Any] = {"state": "stopped", "pid": None, "version": None, "uptime_s": None}
    found |= {"socket": str(session.home.socket), "operations_open": None, "home": str(session.home.state)}
    if hello is None:
        return found
    found |= {"state": "running", "pid": hello.pid, "version": hello.version, "lab": hello.lab, "owner": hello.owner}
    found["uptime_s"] = round(max(0.0, time.time() - hello.started_at), 3)
    try:
        operations = session.run(EngineClient(session.home).state()).state.operations.values()
        found["operations_open"] = sum(o.state == "running" for o in operations)
    except EngineError as e:
        session.out.note(f"▲ {e}")
    return found
