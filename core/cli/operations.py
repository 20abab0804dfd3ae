"""`understudy operations`: what is under way and how it went, step by step."""

from __future__ import annotations

import time
from typing import Any

import click

from core.cli import follow, objects
from core.cli.output import seconds
from core.cli.session import Noun, Session, operation_id, pass_session
from core.domain import api


@click.group(cls=Noun)
def operations() -> None:
    """What is under way and how it went, step by step."""


@operations.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, help="At most so many.")
@pass_session
def list_(session: Session, limit: int) -> None:
    """Operations, newest first."""
    client = session.engine()
    known = session.run(client.state()).state.operations.values()
    newest = sorted(known, key=lambda o: o.started_at, reverse=True)[:limit]
    found = [objects.operation(o) for o in newest]
    now = time.time()
    rows = [
        [o.id, o.kind, o.workspace or o.machine, o.state, seconds((o.ended_at or now) - o.started_at), _last(o)]
        for o in newest
    ]
    heads = ["ID", "KIND", "OF", "STATE", ">TOOK", "LAST STEP"]
    session.out.document(
        {"operations": found}, lambda: session.out.table(heads, rows, empty="Nothing was asked for yet.")
    )


def _last(operation: Any) -> str:
    if operation.reason:
        return str(operation.reason)
    return operation.steps[-1].name if operation.steps else ""


@operations.command("show")
@click.argument("operation", metavar="ID")
@click.option("--watch", is_flag=True, help="Wait until it has ended; Ctrl-C stops watching, never the operation.")
@pass_session
def show(session: Session, operation: str, watch: bool) -> None:
    """One operation, step by step."""
    client = session.engine()
    found = session.run(client.operation(operation))
    if watch and found.state == "running":
        found = follow.to_end(session, operation)
    document = objects.operation(found)
    session.out.document(document, lambda: _people(session, document))
    if watch:
        follow.check(found)


def _people(session: Session, found: dict[str, Any]) -> None:
    keys = ("id", "kind", "workspace", "machine", "state", "started_at", "ended_at", "reason")
    session.out.fields((k.replace("_", " "), found[k]) for k in keys)
    rows = [[s["name"], s["state"], seconds(s["took_s"]), s["attempt"], s["detail"]] for s in found["steps"]]
    session.out.table(["STEP", "STATE", ">TOOK", ">ATTEMPT", "DETAIL"], rows, empty="No step yet.")


@operations.command("cancel")
@click.argument("operation", metavar="ID")
@pass_session
def cancel(session: Session, operation: str) -> None:
    """Stop an operation; what it had rented is given back."""
    client = session.engine()
    intent = api.Intent(operation=operation_id("cancel"))
    session.send(lambda: client.cancel(intent, operation))
    found = objects.operation(session.run(client.operation(operation)))
    session.out.document(found, lambda: session.out.say(f"{operation} is {found['state']}."))
