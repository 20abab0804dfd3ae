"""`understudy budget`: the hard limits, and what is spent of them."""

from __future__ import annotations

import time
from typing import Any

import click

from core.cli import objects
from core.cli.output import money
from core.cli.session import Amount, Noun, Session, operation_id, pass_session
from core.domain import api


@click.group(cls=Noun)
def budget() -> None:
    """The hard limits: checked before every machine that is rented."""


@budget.command("show")
@pass_session
def show(session: Session) -> None:
    """The limits and what is spent of them."""
    client = session.engine()
    found = objects.budget(session.run(client.state()).state, time.time())
    session.out.document(found, lambda: _people(session, found))


@budget.command("set")
@click.option("--usd-per-hour", type=Amount(min=0), help="What all machines together may cost an hour.")
@click.option("--usd-per-month", type=Amount(min=0), help="What a calendar month (UTC) may cost.")
@click.option("--machines", type=click.IntRange(min=0), help="How many machines may be rented at once.")
@pass_session
def set_(session: Session, usd_per_hour: float | None, usd_per_month: float | None, machines: int | None) -> None:
    """Set one or more of the limits; the others stay."""
    if usd_per_hour is None and usd_per_month is None and machines is None:
        raise click.UsageError("Say which limit: --usd-per-hour, --usd-per-month or --machines.")
    intent = api.BudgetIntent(
        operation=operation_id("budget"), usd_per_hour=usd_per_hour, usd_per_month=usd_per_month, machines=machines
    )
    client = session.engine()
    session.send(lambda: client.budget(intent))
    found = objects.budget(session.run(client.state()).state, time.time())
    session.out.document(found, lambda: _people(session, found))


def _people(session: Session, found: dict[str, Any]) -> None:
    spent = found["spent"]
    rows = [
        ["an hour", money(found["usd_per_hour"], 2), money(spent["committed_usd_per_hour"])],
        ["a month", money(found["usd_per_month"], 2), money(spent["month_usd"], 2)],
        ["machines", found["machines"], spent["machines"]],
    ]
    session.out.table(["", ">LIMIT", ">NOW"], rows)
