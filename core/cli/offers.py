"""`understudy offers` and `understudy offers watch`: the market now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from core.cli import objects
from core.cli.output import money, seconds
from core.cli.session import Amount, Noun, Session, Verb, pass_session
from core.client import EngineClient
from core.config import load
from core.domain import api
from core.domain.errors import EngineError

F = TypeVar("F", bound=Callable[..., Any])
_SHOWN = 40  # rows for people; --limit and --json decide otherwise
_WATCH_S = 2.0
_OUTAGES_MAX = 30


def _filters(function: F) -> F:
    options = [
        click.option("--gpu", help="A model, as people say it: 4090, a100, h100."),
        click.option("--count", type=click.IntRange(min=1), help="So many GPUs in one machine."),
        click.option("--kind", type=click.Choice(["spot", "on-demand"]), help="Spot may be taken away."),
        click.option("--provider", help="One provider only."),
        click.option("--region", help="A country's two letters, or part of a region's name."),
        click.option("--max-usd-per-hour", type=Amount(min=0), help="All-in, disk included."),
        click.option("--min-vram-gb", type=Amount(min=0), help="Per GPU."),
        click.option(
            "--sort", type=click.Choice(["price", "value", "reliability"]), default="price", help="Best first."
        ),
        click.option("--limit", type=click.IntRange(min=0), default=0, help="At most so many; 0 is all."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group(cls=Noun, invoke_without_command=True)
@_filters
@click.pass_context
def offers(context: click.Context, /, **words: Any) -> None:
    """The market now, cheapest first, with what a price includes and how old it is."""
    if context.invoked_subcommand is not None:
        context.meta["understudy.offers"] = words
        return
    session = context.ensure_object(Session)
    client = session.engine()
    wanted = api.OfferFilter(**words)
    reply = session.run(client.offers(wanted))
    _answer(session, wanted, reply)


@offers.command(cls=Verb)
@_filters
@pass_session
@click.pass_context
def watch(context: click.Context, session: Session, /, **words: Any) -> None:
    """The same again whenever it changes; with --json one line each."""
    before = context.meta.get("understudy.offers", {})
    said = {k: v for k, v in words.items() if context.get_parameter_source(k) is not click.core.ParameterSource.DEFAULT}
    client = session.engine()
    session.run(_watch(session, client, api.OfferFilter(**{**words, **before, **said})))


async def _watch(session: Session, client: EngineClient, wanted: api.OfferFilter) -> None:
    """An engine that is away for a moment is waited for."""
    last: list[Any] = []
    outages = 0
    while True:
        try:
            reply = await client.offers(wanted)
            outages = 0
        except EngineError:
            outages += 1
            if outages > _OUTAGES_MAX:
                raise
        else:
            now = [[msg.id, msg.usd_per_hour] for msg in reply.offers] + [[p.provider, p.ok] for p in reply.providers]
            if now != last:
                last = now
                _answer(session, wanted, reply)
        await asyncio.sleep(_WATCH_S)


def _answer(session: Session, wanted: api.OfferFilter, reply: api.OffersReply) -> None:
    now, disk_gb = time.time(), load(session.home).settings.rent.disk_gb
    found = [objects.offer(o, now, disk_gb) for o in reply.offers]
    providers = [objects.market(p, now) for p in reply.providers]
    session.out.document(
        {"offers": found, "providers": providers}, lambda: _people(session, wanted, found, providers, disk_gb)
    )


def _people(
    session: Session,
    wanted: api.OfferFilter,
    found: list[dict[str, Any]],
    providers: list[dict[str, Any]],
    disk_gb: float,
) -> None:
    heads = [
        "ID",
        ">N",
        "GPU",
        ">VRAM",
        "KIND",
        ">$/GPU/H",
        ">$/H",
        f">WITH {disk_gb:g} GB",
        "PLACE",
        ">RELIABLE",
        ">VALUE",
        ">AGE",
    ]
    shown = found if wanted.limit else found[:_SHOWN]
    session.out.table(heads, [_row(o) for o in shown], empty="No offer fits.", spare=("VALUE", "RELIABLE", "$/GPU/H"))
    if len(shown) < len(found):
        session.out.say(f"{len(found) - len(shown)} more; narrow it, or --limit {len(found)}.", "dim")
    if any(offer["source"].endswith(" lab") for offer in found):
        session.out.note("Hosts and prices are the lab's: simulated.")
    for provider in providers:
        if not provider["ok"]:
            session.out.note(f"▲ {provider['provider']}: {provider['error'] or 'not read yet'}")
        if provider["rows_skipped"]:
            session.out.note(f"▲ {provider['provider']}: {provider['rows_skipped']} rows could not be read.")


def _row(offer: dict[str, Any]) -> list[Any]:
    reliable = None if offer["reliability"] is None else f"{offer['reliability'] * 100:.1f} %"
    return [
        offer["id"],
        offer["gpu_count"],
        offer["gpu"],
        f"{offer['vram_gb']:.0f} GB",
        offer["kind"],
        money(offer["usd_per_gpu_hour"]),
        money(offer["usd_per_hour"]),
        money(offer["all_in_usd_per_hour"]),
        offer["country"] or offer["region"],
        reliable,
        None if offer["value"] is None else f"{offer['value']:.0f}",
        seconds(offer["age_s"]),
    ]
