"""`understudy down NAME`: retire a workspace, or everything at once."""

from __future__ import annotations

from typing import Any

import click

from core.cli import follow, objects
from core.cli.output import money
from core.cli.session import Session, Verb, not_found, operation_id, pass_session, workspace_names
from core.domain import api
from core.domain.machines import GONE, Machine


@click.command(cls=Verb)
@click.argument("name", required=False, shell_complete=workspace_names)
@click.option("--all", "everything", is_flag=True, help="Every workspace and every machine of ours.")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def down(session: Session, name: str | None, everything: bool, no_wait: bool) -> None:
    """Destroy the machines of workspace NAME and end it; what is on them is lost.

    Returns when the provider has accepted and has once listed its machines as gone; the proof goes on behind.
    """
    if everything == (name is not None):
        raise click.UsageError("Say which: a workspace's NAME, or --all.")
    client = session.engine()
    state = session.run(client.state()).state
    if name is not None and name not in state.workspaces:
        raise not_found("workspace", name, "list")
    condemned = _condemned(list(state.machines.values()), name)
    known = state.workspaces.get(name or "")
    if known is not None and known.state in objects.ENDED and not condemned:
        found: dict[str, Any] = {"operation": known.operation, "machines": []}
        return session.out.document(found, lambda: session.out.say(f"{name} has ended already."))
    session.confirm(_question(name, condemned), typed=name or "all")
    intent = api.DownIntent(operation=operation_id("down"), name=name)
    accepted = session.send(lambda: client.down(intent))
    if no_wait:
        return session.out.document({"operation": accepted.operation}, lambda: session.out.say(accepted.operation))
    follow.check(follow.to_end(session, accepted.operation))
    after = session.run(client.state()).state.machines
    ids = accepted.machines or [m.id for m in condemned]
    left = [{"id": i, "state": after[i].state} for i in ids if i in after]
    session.out.document({"operation": accepted.operation, "machines": left}, lambda: _people(session, name, left))
    return None


def _condemned(machines: list[Machine], name: str | None) -> list[Machine]:
    return [m for m in machines if m.state not in GONE and (name is None or m.workspace == name)]


def _question(name: str | None, machines: list[Machine]) -> str:
    what = f"workspace {name}" if name else "every workspace"
    saved = objects.usd(sum(m.burn_usd_per_hour for m in machines))
    count = len(machines)
    return f"Retires {what}: {count} machine{'s' * (count != 1)} ({money(saved)}/h) destroyed with what is on them."


def _people(session: Session, name: str | None, machines: list[dict[str, Any]]) -> None:
    session.out.say(f"{name or 'everything'} is retired.")
    for machine in machines:
        if machine["state"] == "destroying":
            session.out.say(f"{machine['id']}: gone from one listing; watched until a second proves it.", "dim")
