"""`understudy status`: what runs, bills, is at risk, is failing."""

from __future__ import annotations

import time
from typing import Any

import click

from core.cli import objects
from core.cli.output import money
from core.cli.session import Session, Verb, pass_session
from core.cli.workspaces import SPARE, rows_of
from core.config import load
from core.domain import api


@click.command(cls=Verb)
@pass_session
def status(session: Session) -> None:
    """What runs, what it costs, what is at risk and what is failing."""
    client = session.engine()
    snapshot = session.run(client.state())
    now = time.time()
    found = _status(snapshot, now)
    found["alerts"] += [{"severity": "warn", "text": problem} for problem in load(session.home).problems]
    session.out.document(found, lambda: _people(session, found))


def _status(snapshot: api.Snapshot, now: float) -> dict[str, Any]:
    live = [w for w in snapshot.state.workspaces.values() if w.state not in objects.ENDED]
    workspaces = [objects.workspace(w, snapshot, None, now) for w in live]
    limits = objects.budget(snapshot.state, now)
    at_risk = [
        {
            "workspace": w["name"],
            "bytes": w["at_risk"]["bytes"],
            "age_s": w["at_risk"]["age_s"],
            "reason": "unprotected",
        }
        for w in workspaces
        if w["state"] in ("running", "suspect")
    ]
    running = [o for o in snapshot.state.operations.values() if o.state == "running"]
    return {
        "burn_usd_per_hour": limits["spent"]["burn_usd_per_hour"],
        "workspaces": workspaces,
        "at_risk": at_risk,
        "alerts": objects.alerts(snapshot.state, snapshot.markets),
        "budget": limits,
        "operations": [objects.operation(o) for o in running],
        "providers": [
            {"name": p.name, "ok": p.ok, "error": p.error, "credit_usd": p.credit_usd, "lab": p.lab}
            for p in snapshot.state.providers.values()
        ],
    }


def _people(session: Session, found: dict[str, Any]) -> None:
    limits, spent = found["budget"], found["budget"]["spent"]
    lab = "   lab, nothing here costs money" if session.home.is_lab else ""
    session.out.say(
        f"{money(spent['burn_usd_per_hour'])}/h of {money(limits['usd_per_hour'], 2)}/h   "
        f"{money(spent['month_usd'], 2)} of {money(limits['usd_per_month'], 2)} this month   "
        f"{spent['machines']} of {limits['machines']} machines{lab}"
    )
    session.out.table(
        *rows_of(found["workspaces"]), empty="No workspace. Rent one: understudy up NAME --gpu 4090.", spare=SPARE
    )
    for operation in found["operations"]:
        step = operation["steps"][-1]["name"] if operation["steps"] else "starting"
        session.out.say(f"… {operation['kind']} {operation['workspace'] or ''}: {step}  ({operation['id']})", "cyan")
    for risk in found["at_risk"]:
        session.out.say(f"▲ {risk['workspace']}: {risk['reason']}, its files are on one machine only", "yellow")
    for alert in found["alerts"]:
        session.out.say(f"▲ {alert['text']}", "red" if alert["severity"] == "bad" else "yellow")
