"""`understudy machines`: machines as such, with the strangers of the account."""

from __future__ import annotations

import time
from typing import Any, Literal

import click

from core.cli import follow, objects
from core.cli.hosts import show_hosts
from core.cli.output import money, seconds
from core.cli.session import Noun, Session, not_found, operation_id, pass_session
from core.cli.workspaces import provider_of, utilization
from core.client import EngineClient
from core.domain import api
from core.domain.machines import GONE

MachineVerb = Literal["start", "stop", "destroy", "adopt"]


@click.group(cls=Noun)
def machines() -> None:
    """Machines as such: list them, look at one, stop, start, destroy, adopt a stranger."""


@machines.command("list")
@click.option("--all", "ended", is_flag=True, help="Those that are gone too.")
@pass_session
def list_(session: Session, ended: bool) -> None:
    """All machines, newest first, and the strangers of the account."""
    client = session.engine()
    snapshot = session.run(client.state())
    now = time.time()
    ours = [m for m in snapshot.state.machines.values() if ended or m.state not in GONE]
    ours.sort(key=lambda m: m.asked_at or m.rented_at or 0.0, reverse=True)
    found = [objects.machine(m, snapshot.readings.get(m.id), now) for m in ours]
    found += [objects.stranger(s, now) for s in snapshot.state.strangers.values()]
    heads = ["ID", "STATE", "WORKSPACE", "GPU", "PROVIDER", "PLACE", ">$/H", ">COST", ">UTIL", ">AGE", "REASON"]
    session.out.document(
        {"machines": found},
        lambda: session.out.table(
            heads, [_row(m) for m in found], empty="No machine is rented.", spare=("PLACE", "COST", "AGE", "PROVIDER")
        ),
    )


@machines.command("show")
@click.argument("machine_id", metavar="ID")
@pass_session
def show(session: Session, machine_id: str) -> None:
    """One machine in full, with its GPUs and processes."""
    client = session.engine()
    snapshot = session.run(client.state())
    known = snapshot.state.machines.get(machine_id)
    if known is None:
        stranger = snapshot.state.strangers.get(machine_id)
        if stranger is None:
            raise not_found("machine", machine_id, "machines list")
        alien = objects.stranger(stranger, time.time())
        session.out.document(alien, lambda: session.out.fields((k.replace("_", " "), v) for k, v in alien.items()))
        return
    reading = snapshot.readings.get(machine_id)
    found = objects.machine(known, reading, time.time())
    found["processes"] = [
        {"pid": p.pid, "name": p.name, "cpu_pct": p.cpu_pct, "memory_mib": p.memory_mib, "gpu": p.gpu_index}
        | {"gpu_memory_mib": p.gpu_memory_mib}
        for p in (reading.processes if reading else [])
    ]
    session.out.document(found, lambda: _people(session, found))


@machines.command("history")
@pass_session
def history(session: Session) -> None:
    """How each host behaved when we rented from it."""
    show_hosts(session, blocked_only=False)


@machines.command("stop")
@click.argument("machine_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def stop(session: Session, machine_id: str, no_wait: bool) -> None:
    """Stop it; its disk stays and goes on billing, its GPU may be taken by others."""
    _act(session, machine_id, "stop", no_wait)


@machines.command("start")
@click.argument("machine_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def start(session: Session, machine_id: str, no_wait: bool) -> None:
    """Start a stopped machine again; it bills in full from then on."""
    _act(session, machine_id, "start", no_wait)


@machines.command("destroy")
@click.argument("machine_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def destroy(session: Session, machine_id: str, no_wait: bool) -> None:
    """Destroy it with all that is on it."""
    _act(session, machine_id, "destroy", no_wait)


@machines.command("adopt")
@click.argument("machine_id", metavar="PROVIDER:ID")
@click.option("--workspace", metavar="NAME", help="Make it this workspace's machine.")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def adopt(session: Session, machine_id: str, workspace: str | None, no_wait: bool) -> None:
    """Take a stranger of the account as ours: watched, counted, and destroyed when asked."""
    _act(session, machine_id, "adopt", no_wait, workspace)


def _act(session: Session, machine_id: str, verb: MachineVerb, no_wait: bool, workspace: str | None = None) -> None:
    client = session.engine()
    snapshot = session.run(client.state())
    if machine_id not in (snapshot.state.strangers if verb == "adopt" else snapshot.state.machines):
        raise not_found("stranger" if verb == "adopt" else "machine", machine_id, "machines list")
    _confirm(session, snapshot, machine_id, verb)
    intent = api.MachineIntent(operation=operation_id(verb), machine=machine_id, verb=verb, workspace=workspace)
    accepted = session.send(lambda: client.machine(intent))
    if no_wait:
        session.out.document({"operation": accepted.operation}, lambda: session.out.say(accepted.operation))
        return
    follow.check(follow.to_end(session, accepted.operation))
    found = session.run(_now(client, accepted.machines or [machine_id]))
    session.out.document(
        {"operation": accepted.operation, "machines": found}, lambda: session.out.say(f"{machine_id}: {verb} done.")
    )


def _confirm(session: Session, snapshot: api.Snapshot, machine_id: str, verb: MachineVerb) -> None:
    if verb == "destroy":
        one = snapshot.state.machines[machine_id]
        what = f"{one.gpu_count}x {one.gpu}" + (f" of workspace {one.workspace}" if one.workspace else "")
        session.confirm(f"Destroys {machine_id} ({what}) with what is on it.", typed=machine_id)
    elif verb == "start":
        one = snapshot.state.machines[machine_id]
        session.confirm(f"Starts {machine_id}: it costs {money(one.usd_per_hour)}/h from then on. Start it?")


async def _now(client: EngineClient, ids: list[str]) -> list[dict[str, Any]]:
    """By our id, or by the provider's: an adopted machine has got one of ours only now."""
    machines = (await client.state()).state.machines.values()
    return [
        {"id": m.id, "state": m.state, "workspace": m.workspace}
        for m in machines
        if m.id in ids or f"{m.provider}:{m.provider_id}" in ids
    ]


def _row(found: dict[str, Any]) -> list[Any]:
    return [
        found["id"],
        found["state"],
        found["workspace"],
        f"{found['gpu_count']}x {found['gpu']}",
        provider_of(found),
        found.get("country") or found.get("region"),
        money(found.get("burn_usd_per_hour", found["usd_per_hour"])),
        money(found.get("cost_usd"), 2),
        utilization(found),
        seconds(found.get("reading_age_s")),
        found.get("reason") or found.get("label") or "",
    ]


def _people(session: Session, found: dict[str, Any]) -> None:
    session.out.fields((k.replace("_", " "), v) for k, v in found.items() if k not in ("gpus", "processes"))
    heads = ["GPU", ">UTIL %", ">USED MIB", ">OF MIB", ">°C", ">W"]
    rows = [[i, *(None if v is None else f"{v:.0f}" for v in g.values())] for i, g in enumerate(found["gpus"])]
    session.out.table(heads, rows, empty="No figures yet.")
    if found["processes"]:
        session.out.table(
            ["PID", "PROCESS", ">CPU %", ">MIB", "GPU", ">GPU MIB"], [list(p.values()) for p in found["processes"]]
        )
