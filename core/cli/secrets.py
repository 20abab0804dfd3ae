"""`understudy secrets`: keys of providers, from a prompt or stdin, never from an argument, never shown again."""

from __future__ import annotations

import sys
from typing import Literal

import click

from core import secrets as vault
from core.cli.output import NONE
from core.cli.session import Noun, Session, operation_id, pass_session
from core.domain import api
from core.domain.errors import EngineError


@click.group(cls=Noun)
def secrets() -> None:
    """Store and remove keys of providers; a value is never shown."""


@secrets.command("list")
@pass_session
def list_(session: Session) -> None:
    """Which are set and where each comes from."""
    names = vault.names(session.home)
    found = [{"name": n, "source": names.get(n), "set": n in names} for n in sorted({*vault.KNOWN, *names})]
    rows = [[s["name"], s["source"] or f"{NONE}  set it: understudy secrets set {s['name']}"] for s in found]
    session.out.document({"secrets": found}, lambda: session.out.table(["NAME", "FROM"], rows))


@secrets.command("set")
@click.argument("name")
@pass_session
def set_(session: Session, name: str) -> None:
    """Store the secret NAME; its value comes from a prompt, or from stdin when that is no terminal."""
    vault.check_name(name)
    if sys.stdin.isatty():
        value = click.prompt(f"Value of {name} (not shown)", hide_input=True, err=True)
    else:
        value = sys.stdin.readline()
    where = vault.set(session.home, name, vault.Secret(value))
    _tell_engine(session, name, "set")
    session.out.document({"name": name, "stored_in": where}, lambda: session.out.say(f"{name} is stored in {where}."))


@secrets.command("remove")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget the stored secret NAME."""
    session.confirm(f"Forgets the secret {name}. Its provider can then not be asked any more. Forget it?")
    vault.remove(session.home, name)
    _tell_engine(session, name, "removed")
    session.out.document({"name": name, "removed": True}, lambda: session.out.say(f"{name} is forgotten."))


def _tell_engine(session: Session, name: str, verb: Literal["set", "removed"]) -> None:
    """A running engine reads it anew; one that is not running reads it when it starts."""
    from core.client import EngineClient
    from core.launch import probe

    if probe(session.home) is None:
        return
    client = EngineClient(session.home)
    intent = api.SecretIntent(operation=operation_id("secret"), name=name, verb=verb)
    try:
        session.run(client.secret(intent))
    except EngineError as e:
        session.out.note(f"The running engine was not told ({e}); restart it: understudy engine stop.")
