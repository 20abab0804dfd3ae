"""`understudy list` and `understudy show NAME`: the workspaces."""

from __future__ import annotations

import time
from typing import Any

import click

from core.cli import objects
from core.cli.output import money, seconds
from core.cli.session import Session, Verb, not_found, pass_session, workspace_names
from core.client import EngineClient
from core.domain import api
from core.domain.errors import UnderstudyError

SPARE = ("AT RISK", "PLACE", "PROVIDER")  # columns that a narrow terminal does without
STALE_S = 3.0  # three periods of the agent's report


async def reached(client: EngineClient, name: str) -> api.Endpoint | None:
    """How to reach it now; None while that is not possible."""
    try:
        return await client.endpoint(name)
    except UnderstudyError:
        return None


async def described(client: EngineClient, name: str) -> tuple[dict[str, Any], api.Snapshot]:
    """The Workspace object. Raises NotFoundError."""
    snapshot = await client.state()
    found = snapshot.state.workspaces.get(name)
    if found is None:
        raise not_found("workspace", name, "list")
    endpoint = await reached(client, name) if found.state == "running" else None
    return objects.workspace(found, snapshot, endpoint, time.time()), snapshot


async def _all(client: EngineClient, *, ended: bool) -> list[dict[str, Any]]:
    snapshot = await client.state()
    found = [w for w in snapshot.state.workspaces.values() if ended or w.state not in objects.ENDED]
    newest = sorted(found, key=lambda w: w.created_at, reverse=True)
    ends = [await reached(client, w.name) if w.state == "running" else None for w in newest]
    return [objects.workspace(w, snapshot, e, time.time()) for w, e in zip(newest, ends, strict=True)]


@click.command("list", cls=Verb)
@click.option("--all", "ended", is_flag=True, help="Those that have ended too.")
@pass_session
def list_(session: Session, ended: bool) -> None:
    """All workspaces, newest first."""
    client = session.engine()
    found = session.run(_all(client, ended=ended))
    empty = "No workspace. Rent one: understudy up NAME --gpu 4090."
    session.out.document({"workspaces": found}, lambda: session.out.table(*rows_of(found), empty=empty, spare=SPARE))


@click.command(cls=Verb)
@click.argument("name", shell_complete=workspace_names)
@pass_session
def show(session: Session, name: str) -> None:
    """One workspace in full."""
    client = session.engine()
    found, _ = session.run(described(client, name))
    session.out.document(found, lambda: session.out.fields(_fields(found)))


def rows_of(found: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Heads and rows of a table of workspaces."""
    heads = ["NAME", "STATE", "GPU", "PROVIDER", "PLACE", ">$/H", ">UTIL", "AT RISK", "REASON"]
    return heads, [_row(w) for w in found]


def _row(found: dict[str, Any]) -> list[Any]:
    primary = found["primary"] or {}
    gpu = f"{primary['gpu_count']}x {primary['gpu']}" if primary else None
    util = utilization(primary)
    risk = "all of it" if found["state"] in ("running", "suspect") else None
    place = primary.get("country") or primary.get("region")
    reason = found["reason"] or primary.get("reason") or ""
    if found["state"] == "running" and primary.get("state") == "stopped":
        reason = f"{primary['id']} is stopped; its disk bills"
    price = money(found["usd_per_hour"])
    return [found["name"], found["state"], gpu, provider_of(primary), place, price, util, risk, reason]


def provider_of(machine: dict[str, Any]) -> str | None:
    """The provider's name for people: what is simulated says so."""
    name = machine.get("provider")
    return f"{name} lab" if name and machine.get("simulated") else name


def utilization(machine: dict[str, Any]) -> str | None:
    """Of its GPUs together; None when nobody knows it now: an old figure is none."""
    age_s = machine.get("reading_age_s")
    used = [g["utilization_pct"] for g in machine.get("gpus", []) if g["utilization_pct"] is not None]
    return f"{sum(used) / len(used):.0f} %" if used and age_s is not None and age_s <= STALE_S else None


def _fields(found: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = [
        ("name", found["name"]),
        ("state", found["state"]),
        ("since", found["state_since"]),
        ("reason", found["reason"]),
        ("costs", f"{money(found['usd_per_hour'])}/h"),
    ]
    primary = found["primary"]
    if primary is not None:
        pairs += [
            ("machine", primary["id"]),
            ("its state", primary["state"]),
            ("gpu", f"{primary['gpu_count']}x {primary['gpu']}"),
            ("provider", f"{provider_of(primary)} {primary['provider_id'] or ''}"),
            ("place", f"{primary['region']} {primary['country']}".strip() or None),
            ("cost so far", money(primary["cost_usd"])),
            ("ends", primary["expires_at"]),
        ]
        pairs += [(f"gpu {i}", _gpu(g)) for i, g in enumerate(primary["gpus"])]
        pairs.append(("figures", f"{seconds(primary['reading_age_s'])} old" if primary["gpus"] else None))
    pairs.append(("protected", "yes" if found["protected"] else "no: its files are on one machine only"))
    endpoint = found["endpoint"]
    if endpoint is not None:
        pairs.append(("reach it", f"understudy ssh {found['name']}   ({endpoint['host']} port {endpoint['port']})"))
        pairs.append(("files in", endpoint["workspace_dir"]))
    pairs.append(("operation", found["operation"]))
    return pairs


def _gpu(one: dict[str, Any]) -> str:
    def figure(value: float | None, unit: str) -> str:
        return "–" if value is None else f"{value:.0f} {unit}"

    used, total = figure(one["memory_used_mib"], "MiB"), figure(one["memory_total_mib"], "MiB")
    return f"{figure(one['utilization_pct'], '%')}, {used} of {total}, {figure(one['temperature_c'], '°C')}, " + figure(
        one["power_w"], "W"
    )
