"""Vast's SSH keys.

Its one rule: account keys reach only machines made afterwards; a running machine gets a key by attaching it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from core.lab.asgi import Answer, BadRequest, Request, answer
from core.lab.vast_context import VastContext, done, error

_KEY_LINE = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?")


def _key_of(body: dict[str, Any]) -> str:
    key = str(body.get("ssh_key") or "").strip()
    if not _KEY_LINE.fullmatch(key):
        raise BadRequest("ssh_key is not an OpenSSH public key.")
    return key


def _rows(keys: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "user_id": 7001,
            "key": key,
            "public_key": key,
            "created_at": "2026-01-01T00:00:00Z",
            "deleted_at": None,
        }
        for number, key in keys.items()
    ]


async def account_keys(context: VastContext, _request: Request, _match: re.Match[str]) -> Answer:
    """GET /ssh/"""
    return answer(200, _rows(context.world.state.account.keys))


async def create(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    """POST /ssh/"""
    key = _key_of(request.json())
    keys = context.world.state.account.keys
    if key in keys.values():
        return error(400, "duplicate_key", "This SSH key is already in the account.")
    number = context.world.number()
    keys[number] = key
    context.world.changed = True
    return done(key=_rows({number: key})[0])


async def update(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """PUT /ssh/{id}/"""
    keys = context.world.state.account.keys
    if int(match["id"]) not in keys:
        return error(404, "not_found", "No such SSH key.")
    keys[int(match["id"])] = _key_of(request.json())
    context.world.changed = True
    return done()


async def delete(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """DELETE /ssh/{id}/"""
    if context.world.state.account.keys.pop(int(match["id"]), None) is None:
        return error(404, "not_found", "No such SSH key.")
    context.world.changed = True
    return done()


async def instance_keys(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """GET /instances/{id}/ssh/: the list comes as a JSON string inside the JSON."""
    return done(ssh_keys=json.dumps(_rows(context.living(match["id"]).keys)))


async def attach(context: VastContext, request: Request, match: re.Match[str]) -> Answer:
    """POST /instances/{id}/ssh/"""
    contract = context.living(match["id"])
    key = _key_of(request.json())
    if key in contract.keys.values():
        return error(400, "duplicate_key", "This SSH key is already attached.")
    known = {each: number for number, each in context.world.state.account.keys.items()}
    contract.keys[known.get(key) or context.world.number()] = key
    context.world.changed = True
    await context.machines.set_keys(contract)
    return done(msg="SSH key added to instance.")


async def detach(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    """DELETE /instances/{id}/ssh/{key}/"""
    contract = context.living(match["id"])
    if contract.keys.pop(int(match["key"]), None) is None:
        return error(404, "not_found", "No such SSH key.")
    context.world.changed = True
    await context.machines.set_keys(contract)
    return done(msg="SSH key removed from instance.")
