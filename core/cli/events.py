"""`understudy events`: the journal of facts, one line each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, cast

import click

from core.cli import objects
from core.cli.output import STYLES
from core.cli.session import Duration, Session, Verb, pass_session
from core.client import EngineClient
from core.domain import api
from core.domain.errors import EngineError
from core.domain.events import Fact, sentence, severity

_NEWEST = 200
_PAGE = 500
_REJOIN_S = 0.5


class Moment(click.ParamType[float]):
    """A span back from now (`2h`), or RFC 3339. Epoch seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            moment = datetime.fromisoformat(str(value))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            return time.time() - Duration().convert(value, param, ctx)


@click.command(cls=Verb)
@click.option("--follow", is_flag=True, help="Go on with what happens from now.")
@click.option("--since", type=Moment(), help="From this time on: 2h, or 2026-11-22T07:00:00Z.")
@click.option("--workspace", metavar="NAME", help="Of this workspace only.")
@pass_session
def events(session: Session, follow: bool, since: float | None, workspace: str | None) -> None:
    """Everything that happened, oldest first, one line each; with --json one object a line.

    Without --since the newest 200.
    """
    client = session.engine()
    session.run(_events(session, client, follow, since, workspace))


async def _events(
    session: Session, client: EngineClient, follow: bool, since: float | None, workspace: str | None
) -> None:
    seq = (await client.state()).state.seq if workspace else 0
    if since is None:
        page = await client.journal(limit=-_NEWEST, workspace=workspace)
        last = max(seq, _print(session, page.facts, workspace, 0))
    else:
        last = await _all_since(session, client, 0, since, workspace)
    while follow:
        try:
            last = await _follow(session, client, last, workspace)
        except EngineError:
            # it may have been stopped on purpose: whoever only looks on waits, and does not start it
            await asyncio.sleep(_REJOIN_S)


async def _all_since(session: Session, client: EngineClient, seq: int, since_at: float, workspace: str | None) -> int:
    while True:
        page = await client.journal(since=seq, since_at=since_at, limit=_PAGE, workspace=workspace)
        seq = _print(session, page.facts, workspace, seq)
        if len(page.facts) < _PAGE:
            return seq


async def _follow(session: Session, client: EngineClient, last: int, workspace: str | None) -> int:
    """Facts as they come; what happened before the stream began is read from the journal, so that none is missing."""
    async with aclosing(cast(AsyncGenerator[api.Update, None], client.stream(last))) as updates:
        async for update in updates:
            if isinstance(update, api.Snapshot) and update.state.seq > last:
                await _all_since(session, client, last, 0.0, workspace)
                last = max(last, update.state.seq)
            elif isinstance(update, api.Delta):
                last = _print(session, update.facts, workspace, last)
    return last


def _print(session: Session, facts: list[Fact], workspace: str | None, last: int) -> int:
    """The highest number seen; a fact is printed once."""
    for fact in facts:
        if fact.seq > last and (workspace is None or fact.workspace == workspace):
            if session.json:
                session.out.line(objects.fact(fact))
            else:
                at = datetime.fromtimestamp(fact.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
                session.out.say(f"{at}  {sentence(fact)}", STYLES.get(severity(fact), ""))
        last = max(last, fact.seq)
    return last
