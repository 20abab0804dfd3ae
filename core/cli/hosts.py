"""`understudy hosts`: how hosts behaved when we rented from them; block one."""

from __future__ import annotations

from typing import Literal

import click

from core.cli import objects
from core.cli.output import seconds
from core.cli.session import Noun, Session, operation_id, pass_session
from core.domain import api


@click.group(cls=Noun)
def hosts() -> None:
    """Hosts: what we ourselves saw of each; block one, and it is never rented again."""


def show_hosts(session: Session, *, blocked_only: bool) -> None:
    """Worst first: those that were refused most."""
    client = session.engine()
    known = session.run(client.state()).state.hosts.values()
    ranked = sorted(
        (h for h in known if h.blocked or not blocked_only), key=lambda h: (-h.refused, -(h.last_at or 0.0))
    )
    found = [objects.host(h) for h in ranked]
    heads = ["HOST", ">RENTED", ">READY", ">REFUSED", ">BOOT", "BLOCKED", "LAST REASON"]
    rows = [
        [
            h["id"],
            h["rented"],
            h["ready"],
            h["refused"],
            seconds(h["boot_s"]),
            (h["blocked_reason"] or "yes") if h["blocked"] else "",
            h["last_reason"] or "",
        ]
        for h in found
    ]
    empty = "No host is blocked." if blocked_only else "Nothing was rented yet."
    session.out.document({"hosts": found}, lambda: session.out.table(heads, rows, empty=empty))


@hosts.command("list")
@click.option("--blocked", is_flag=True, help="The blocked ones only.")
@pass_session
def list_(session: Session, blocked: bool) -> None:
    """All hosts that we rented from or that are blocked."""
    show_hosts(session, blocked_only=blocked)


@hosts.command("block")
@click.argument("host", metavar="PROVIDER:HOST")
@click.option("--reason", default="", help="Why, for later.")
@pass_session
def block(session: Session, host: str, reason: str) -> None:
    """Never rent from it again."""
    _set(session, host, "block", reason)


@hosts.command("unblock")
@click.argument("host", metavar="PROVIDER:HOST")
@pass_session
def unblock(session: Session, host: str) -> None:
    """Let it be rented from again."""
    _set(session, host, "unblock", "")


def _set(session: Session, host: str, verb: Literal["block", "unblock"], reason: str) -> None:
    if ":" not in host:
        raise click.UsageError("A host is named PROVIDER:HOST, as in: understudy hosts list.")
    client = session.engine()
    intent = api.HostIntent(operation=operation_id(verb), host=host, verb=verb, reason=reason)
    accepted = session.send(lambda: client.host_intent(intent))
    found = {"operation": accepted.operation, "host": host, "blocked": verb == "block"}
    session.out.document(found, lambda: session.out.say(f"{host} is {verb}ed."))
