"""Vast's calls on instances.

Its one rule: a gone instance is null on show, absent on list, and no_such_instance for every act.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import shlex
from collections import Counter
from typing import Any

from core.lab.asgi import Answer, BadRequest, Request, answer
from core.lab.contracts import Refused
from core.lab.state import Contract
from core.lab.vast_context import VastContext, done, error
from core.lab.vast_rows import instance_row, is_stored
from core.lab.vast_search import BadQuery, matches

PAGE = 25
MAX_COMMAND = 512
MAX_BID_PER_GPU_USD, MIN_BID_USD = 32.0, 0.001
_ALLOWED_COMMANDS = frozenset({"ls", "rm", "du"})
Row = dict[str, Any]


def _json_query(request: Request, name: str, default: Any) -> Any:
    text = request.query.get(name)
    if not text:
        return default
    try:
        return json.loads(text)
    except ValueError as problem:
        raise BadRequest(f"{name} is not JSON.") from problem


def _columns(request: Request) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    """Filters and order of a list call. Raises BadRequest for a computed column."""
    filters = _json_query(request, "select_filters", {})
    order = _json_query(request, "order_by", [])
    if not isinstance(filters, dict) or not isinstance(order, list):
        raise BadRequest("select_filters is an object and order_by a list.")
    keys = [(str(o.get("col", "id")), str(o.get("dir", "asc")).lower() == "desc") for o in order if isinstance(o, dict)]
    for column in [*filters, *(name for name, _ in keys)]:
        if not is_stored(column):
            raise BadRequest(f"invalid_request: {column} is not a stored column.")
    return filters, keys or [("id", False)]


def _page(rows: list[Row], keys: list[tuple[str, bool]], after: str | None, limit: int) -> tuple[list[Row], str | None]:
    """Sort, go on after the row that a token names, cut; the token carries the last row's id, so changes between pages
    lose nothing.
    """
    column, down = keys[0]

    def place(row: Row) -> tuple[bool, Any, int]:
        value = row.get(column)
        return value is not None, value if value is not None else 0, row["id"]

    rows.sort(key=place, reverse=down)
    if after:
        try:
            there, value, number = json.loads(base64.urlsafe_b64decode(after.encode()))
            last = (bool(there), value, int(number))
            rows = [row for row in rows if (place(row) < last if down else place(row) > last)]
        except (ValueError, TypeError) as problem:
            raise BadRequest("invalid_request: after_token is not one of ours.") from problem
    shown = rows[:limit]
    more = len(rows) > limit
    token = base64.urlsafe_b64encode(json.dumps(place(shown[-1])).encode()).decode() if more else None
    return shown, token


def _row(context: VastContext, contract: Contract) -> Row:
    silent_since = context.faults.silent_since(contract)
    return instance_row(context.world, contract, context.machines.heartbeat(contract), silent_since)


async def list_instances(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    """GET /instances/: v1 in keyset pages of at most 25; v0, deprecated, everything at once."""
    everything = [_row(context, c) for c in context.seen()]
    if request.path.startswith("/api/v0"):
        return answer(200, {"instances": everything})
    filters, keys = _columns(request)
    try:
        rows = [row for row in everything if matches(row, filters)]
        limit = min(PAGE, max(1, int(request.query.get("limit") or PAGE)))
    except (BadQuery, ValueError) as problem:
        raise BadRequest(f"invalid_request: {problem}") from problem
    shown, token = _page(rows, keys, request.query.get("after_token"), limit)
    wanted = _json_query(request, "select_cols", ["*"])
    if isinstance(wanted, list) and wanted and "*" not in wanted:
        shown = [{k: v for k, v in row.items() if k == "id" or k in wanted} for row in shown]
    labels = Counter(row["label"] or "" for row in everything)
    return answer(
        200,
        {
            "success": True,
            "instances": shown,
            "instances_found": len(rows),
            "total_instances": len(everything),
            "label_counts": dict(labels),
            "next_token": token,
        },
    )


async def filters(context: VastContext, _request: Request, _match: re.Match[str]) -> Answer:
    """GET /instances/filters/: what the account's rows can be filtered by."""
    rows = [_row(context, c) for c in context.seen()]
    columns = ("actual_status", "verification", "gpu_name")
    return answer(200, {"success": True, "filters": [{name: row[name] for name in columns} for row in rows]})


async def show(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """GET /instances/{id}/: null when gone."""
    found = [c for c in context.seen() if c.id == int(match["id"])]
    return answer(200, {"instances": _row(context, found[0]) if found else None})


def _manage(context: VastContext, contract: Contract, body: dict[str, Any]) -> None:
    state = body.get("state")
    if state not in (None, "running", "stopped"):
        raise BadRequest("state is running or stopped.")
    if "label" in body:
        contract.label = None if body["label"] is None else str(body["label"])[:256]
        context.world.changed = True
    if state == "running":
        context.world.start(contract)
    elif state == "stopped":
        context.world.stop(contract)


async def manage_one(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /instances/{id}/: start, stop, label."""
    _manage(context, context.living(match["id"]), request.json())
    return done()


def _ids(body: dict[str, Any]) -> list[int]:
    ids = body.get("ids") or body.get("instance_ids")
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise BadRequest("ids is a list of instance ids.")
    return ids


async def manage_many(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    """PUT /instances/ with `ids`."""
    body = request.json()
    for contract in [context.living(each) for each in _ids(body)]:
        _manage(context, contract, body)
    return done()


async def destroy_one(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """DELETE /instances/{id}/"""
    context.world.destroy(context.living(match["id"]))
    return done()


async def destroy_many(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    """DELETE /instances/ with `instance_ids`: those that exist end; the others are named."""
    missing = []
    for each in _ids(request.json()):
        try:
            context.world.destroy(context.living(each))
        except Refused:
            missing.append(each)
    return done(not_found=missing)


async def reboot(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """PUT /instances/reboot/{id}/ and recycle: the container restarts on the same GPUs."""
    contract = context.living(match["id"])
    if not context.world.move(contract, "reboot"):
        return error(400, "invalid_state", "Only a running instance can be rebooted.")
    return done()


async def change_bid(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /instances/bid_price/{id}/: null bids what wins now."""
    contract = context.living(match["id"])
    if contract.bid_usd_per_hour is None:
        return error(400, "invalid_args", "An on-demand instance has no bid.")
    wanted = request.json().get("price")
    try:
        price = context.world.floor(contract) if wanted is None else float(wanted)
    except (TypeError, ValueError) as problem:
        raise BadRequest("price is a number.") from problem
    if not MIN_BID_USD <= price <= MAX_BID_PER_GPU_USD * contract.gpus:
        return error(400, "invalid_price", f"price must be between {MIN_BID_USD} and {MAX_BID_PER_GPU_USD:g} per GPU.")
    context.world.change_bid(contract, price)
    return done()


def _later(context: VastContext, token: str, work: Any) -> Answer:
    async def finish() -> None:
        context.results[token] = await work

    task = asyncio.create_task(finish())
    context.tasks.add(task)
    task.add_done_callback(context.tasks.discard)
    url = f"{context.base_url}/api/v0/results/{token}"
    return done(result_url=url, msg="", writeable_path="/workspace")


async def request_logs(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /instances/request_logs/{id}/: the text is at result_url as soon as it is ready; until then that answers
    403.
    """
    contract, body = context.living(match["id"]), request.json()
    try:
        tail = int(body.get("tail") or 1000)
    except (TypeError, ValueError) as problem:
        raise BadRequest("tail is a number.") from problem
    needle = str(body.get("filter") or "")

    async def logs() -> bytes:
        lines = (await context.machines.logs(contract)).splitlines(keepends=True)
        return b"".join([line for line in lines if needle.encode() in line][-tail:])

    return _later(context, secrets.token_urlsafe(18), logs())


async def execute(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /instances/command/{id}/: ls, rm and du only."""
    contract = context.living(match["id"])
    command = str(request.json().get("command") or "")
    try:
        argv = shlex.split(command)
    except ValueError as problem:
        raise BadRequest("The command's quotes do not match.") from problem
    if len(command) > MAX_COMMAND or not argv or argv[0] not in _ALLOWED_COMMANDS:
        return error(400, "invalid_args", "Only ls, rm and du are allowed, in at most 512 characters.")
    return _later(context, secrets.token_urlsafe(18), context.machines.run(contract, argv))
