"""`understudy up NAME`: rent a machine and have a workspace on it."""

from __future__ import annotations

import time
from typing import Any

import click

from core.cli import follow, objects
from core.cli.output import money, seconds
from core.cli.session import Amount, Duration, Session, Verb, operation_id, pass_session
from core.cli.workspaces import described
from core.config import load
from core.domain import api
from core.domain.errors import IntentRefused
from core.domain.workspaces import UpSpec, check_name


@click.command(cls=Verb)
@click.argument("name")
@click.option("--gpu", help="A model, as people say it: 4090, a100, h100.")
@click.option("--count", type=click.IntRange(min=1), default=1, help="So many GPUs in one machine.")
@click.option("--kind", type=click.Choice(["spot", "on-demand"]), default="on-demand", help="Spot may be taken away.")
@click.option("--offer", metavar="ID", help="This offer and no other.")
@click.option("--provider", help="One provider only.")
@click.option("--region", help="A country's two letters, or part of a region's name.")
@click.option("--image", help="Container image.")
@click.option("--disk-gb", type=Amount(min=0), help="Size of the disk.")
@click.option("--strategy", type=click.Choice(["cheapest"]), default="cheapest", help="Which offer is tried first.")
@click.option("--max-usd-per-hour", type=Amount(min=0), help="All-in, disk included.")
@click.option("--min-vram-gb", type=Amount(min=0), help="Per GPU.")
@click.option("--min-reliability", type=Amount(min=0, max=1), help="As the provider rates its host.")
@click.option("--for", "for_s", type=Duration(), help="The machine ends after it, engine or no engine: 8h, 2d.")
@click.option("--dry-run", is_flag=True, help="The plan and what it costs; nothing is rented.")
@click.option("--no-wait", is_flag=True, help="Return at once with the operation.")
@pass_session
def up(session: Session, /, name: str, dry_run: bool, no_wait: bool, disk_gb: float | None, **words: Any) -> None:
    """Rent a machine and have a workspace NAME on it, ready to use."""
    if not words["gpu"] and not words["offer"]:
        raise click.UsageError("Say what it needs: --gpu 4090, or --offer ID from: understudy offers.")
    rent = load(session.home).settings.rent
    words["image"] = words["image"] or rent.image or None
    spec = UpSpec(disk_gb=rent.disk_gb if disk_gb is None else disk_gb, **words)
    intent = api.UpIntent(operation=operation_id("up"), name=check_name(name), spec=spec, dry_run=dry_run)
    client = session.engine()
    if dry_run or not session.yes:
        plan = session.run(client.plan(intent))
        if dry_run:
            return _answer_plan(session, plan, spec)
        _ask(session, name, plan, spec)
    accepted = session.send(lambda: client.up(intent))
    if no_wait:
        return session.out.document({"operation": accepted.operation}, lambda: session.out.say(accepted.operation))
    started = time.monotonic()
    follow.check(follow.to_end(session, accepted.operation))
    found, _ = session.run(described(client, name))
    took = seconds(time.monotonic() - started)
    document = {"operation": accepted.operation, **found}
    session.out.document(document, lambda: session.out.say(f"{name} is ready after {took}: understudy ssh {name}"))
    return None


def _ask(session: Session, name: str, plan: api.Plan, spec: UpSpec) -> None:
    if plan.refused:
        raise IntentRefused(plan.refused, hint=plan.hint)
    session.out.note("\n".join(_plan_lines(plan, spec)))
    session.confirm(f"Rent it for {name} at {money(plan.all_in_usd_per_hour)}/h?")


def _answer_plan(session: Session, plan: api.Plan, spec: UpSpec) -> None:
    """A plan that would be refused leaves with 4, so that a script can ask before it acts."""
    found = objects.plan(plan, time.time(), spec.disk_gb)
    session.out.document(found, lambda: session.out.say("\n".join(_plan_lines(plan, spec))))
    if plan.refused:
        if not session.json:
            session.out.error(IntentRefused(plan.refused, hint=plan.hint))
        raise click.exceptions.Exit(IntentRefused.exit_code)


def _plan_lines(plan: api.Plan, spec: UpSpec) -> list[str]:
    if not plan.offers:
        return ["No offer fits now."]
    first = plan.offers[0]
    place = first.country or first.region or "unknown place"
    lines = [
        f"{first.gpu_count}x {first.gpu} at {first.provider}, {place}, {first.kind}, offer {first.id}",
        f"{money(plan.all_in_usd_per_hour)}/h with {spec.disk_gb:g} GB of disk, {money(plan.usd_per_day, 2)} a day; "
        f"traffic is not in it",
    ]
    if plan.usd_for_duration is not None:
        lines.append(f"{money(plan.usd_for_duration, 2)} until it ends by itself")
    lines.append(
        f"left of the budget before it: {money(plan.budget_left_usd_per_hour, 2)}/h, "
        f"{money(plan.budget_left_usd_month, 2)} this month, {plan.machines_left} machines"
    )
    if len(plan.offers) > 1:
        lines.append(f"{len(plan.offers) - 1} more offers are there when it does not come up")
    if plan.boot_s_expected is not None:
        lines.append(f"ready in about {seconds(plan.boot_s_expected)}")
    return lines
