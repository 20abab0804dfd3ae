"""Vast's create call.

Its one rule: `price` present means interruptible, absent means on demand, whatever the search was for.

A bid under the floor is an error whose body still carries `new_contract`: the contract exists, is stopped, and its
storage bills.
"""

from __future__ import annotations

import re
import secrets
import shlex
from dataclasses import replace
from itertools import pairwise
from typing import Any

from core.lab.asgi import Answer, BadRequest, Request, answer
from core.lab.contracts import Order, Refused
from core.lab.vast_context import PROVIDER, VastContext, error

MIN_DISK_GB, MAX_LABEL, MAX_IMAGE, MAX_SCRIPT, MAX_ENV = 8.0, 256, 1024, 4096, 32_768
MIN_PRICE_USD, MAX_PRICE_USD = 0.001, 128.0
DEFAULT_DISK_GB = 10.0
_MODES = frozenset(["ssh", "jupyter", "args", "ssh_proxy", "ssh_direc", "jupyter_proxy", "jupyter_direc"])


def _env(value: Any) -> dict[str, str]:
    """The environment out of the object or docker-options string that clients send; ports and other options are left
    out.
    """
    if isinstance(value, str):
        words = shlex.split(value)
        pairs = [word for flag, word in pairwise(words) if flag in ("-e", "--env")]
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if isinstance(value, dict):
        return {str(key): str(each) for key, each in value.items() if not str(key).startswith("-")}
    if value is None:
        return {}
    raise BadRequest("env is an object or a string of docker options.")


def _price(body: dict[str, Any]) -> float | None:
    if body.get("price") is None:
        return None
    try:
        price = float(body["price"])
    except (TypeError, ValueError) as problem:
        raise BadRequest("price is a number.") from problem
    if not MIN_PRICE_USD <= price <= MAX_PRICE_USD:
        raise BadRequest(f"price must be between {MIN_PRICE_USD} and {MAX_PRICE_USD:g}.")
    return price


def order_of(body: dict[str, Any]) -> Order:
    """The order in a create body. Raises BadRequest."""
    try:
        disk_gb = float(body.get("disk") or DEFAULT_DISK_GB)
    except (TypeError, ValueError) as problem:
        raise BadRequest("disk is a number of GB.") from problem
    image, label = str(body.get("image") or ""), body.get("label")
    script = str(body.get("onstart") or "") + str(body.get("args") or "")
    runtype = str(body.get("runtype") or "ssh_proxy")
    limits = (
        (disk_gb < MIN_DISK_GB, f"disk must be at least {MIN_DISK_GB:g} GB."),
        (not image and not body.get("template_hash_id"), "image is required."),
        (len(image) > MAX_IMAGE, f"image is longer than {MAX_IMAGE} characters."),
        (label is not None and len(str(label)) > MAX_LABEL, f"label is longer than {MAX_LABEL} characters."),
        (len(script) > MAX_SCRIPT, f"onstart and args are longer than {MAX_SCRIPT} characters."),
        (len(str(body.get("env") or "")) > MAX_ENV, f"env is longer than {MAX_ENV} characters."),
        (not set(runtype.split()) <= _MODES, f"unknown runtype {runtype!r}."),
    )
    for broken, sentence in limits:
        if broken:
            raise BadRequest(sentence)
    return Order(
        bid_usd_per_hour=_price(body),
        disk_gb=disk_gb,
        label=None if label is None else str(label),
        image=image or "vastai/base-image:cuda-12.8.1-auto",
        runtype=runtype,
        env=_env(body.get("env")),
        onstart=str(body.get("onstart") or ""),
    )


def _no_such_ask(context: VastContext, offer_id: int) -> Answer:
    """404 for an offer nobody knows, 410 for one that was there a moment ago."""
    status = 410 if offer_id in context.world.gone_offers else 404
    code = "no_such_ask" if status == 410 else "invalid_args"
    message = f"error {status}/3603: no_such_ask Instance type by id {offer_id} is not available."
    return error(status, code, message, ask_id=offer_id)


def _rent(context: VastContext, offer_id: int, order: Order) -> Answer:
    world = context.world
    found = world.offer_of(offer_id)
    if found is None or context.faults.out_of_stock(found[0].country):
        return _no_such_ask(context, offer_id)
    if order.disk_gb > found[0].disk_gb * found[1] / found[0].gpu_count:
        return error(400, "invalid_args", "error 400/3603: invalid_args not enough disk space on this machine.")
    contract = world.rent(PROVIDER, offer_id, replace(order, lie=context.faults.lie(found[0].machine_id)))
    contract.api_key = secrets.token_hex(32)
    contract.answered_at = world.clock.now()
    if contract.phase == "stopped":
        return error(
            400,
            "invalid_price",
            f"error 400/3603: invalid_price the bid is below the machine's minimum of {world.floor(contract):g}.",
            new_contract=contract.id,
        )
    return answer(200, {"success": True, "new_contract": contract.id, "instance_api_key": contract.api_key})


async def rent_one(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /asks/{id}/"""
    return _rent(context, int(match["id"]), order_of(request.json()))


async def rent_many(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    """POST /asks/bulk/ with `ids`: one contract each, as far as it goes; the answer lists what was made and what was
    not.
    """
    body = request.json()
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids or len(ids) > 25 or not all(isinstance(each, int) for each in ids):
        raise BadRequest("ids is a list of 1 to 25 offer ids.")
    order = order_of(body)
    made: list[int] = []
    failed: list[int] = []
    for offer_id in ids:
        try:
            result = _rent(context, offer_id, order)
        except Refused:
            failed.append(offer_id)
            continue
        if result.status == 200:
            made.append(max(context.world.state.contracts))
        else:
            failed.append(offer_id)
    return answer(200, {"success": bool(made), "new_contracts": made, "failed_ids": failed})
