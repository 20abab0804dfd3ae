"""The Vast.ai API over the lab's world.

Its one rule: what the provider documents or was seen to do, byte for byte where clients notice.

The trailing slash is optional, `/api/v0` and `/api/v1` share one table. A bad key is 401, except on search, where
it is 404. Too frequent calls are 429 with one of the bodies seen in the wild. Faults aimed at the provider are
applied here, before or after the act itself.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from core.lab import vast_instances, vast_keys, vast_rent
from core.lab.asgi import HTML, TEXT, Answer, BadRequest, Request, answer
from core.lab.contracts import Refused
from core.lab.gpus import MODELS
from core.lab.hostile import spoil_rows, taint_rows
from core.lab.machine_faults import number_of
from core.lab.pacing import Pacer
from core.lab.state import FaultRecord
from core.lab.vast_context import VastContext, error
from core.lab.vast_rows import user_row
from core.lab.vast_search import BadQuery, search

Handler = Callable[[VastContext, Request, re.Match[str]], Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """One call of the API: `endpoint` names it for pacing, counting and faults."""

    method: str
    pattern: re.Pattern[str]
    endpoint: str
    handler: Handler
    public: bool = False


async def _search(context: VastContext, request: Request, _match: re.Match[str]) -> Answer:
    body = request.json()
    wanted = body.get("q", body)
    if not isinstance(wanted, dict):
        return error(400, "invalid_args", "q is an object.")
    try:
        rows = search(context.world, wanted, hidden=context.faults.out_of_stock)
        return answer(200, {"offers": rows})
    except BadQuery as problem:
        return error(400, "invalid_args", str(problem))


async def _user(context: VastContext, _request: Request, _match: re.Match[str]) -> Answer:
    return answer(200, user_row(context.world))


async def _gpu_names(_context: VastContext, _request: Request, _match: re.Match[str]) -> Answer:
    return answer(200, {"gpu_names": sorted({model.name for model in MODELS})})


async def _result(context: VastContext, _request: Request, match: re.Match[str]) -> Answer:
    text = context.results.get(match["token"])
    if text is None:
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
    return Answer(200, text, TEXT)


async def _no_price_increases(_context: VastContext, _request: Request, _match: re.Match[str]) -> Answer:
    return answer(200, {"success": True, "pending_price_increases": []})


def _route(method: str, path: str, endpoint: str, handler: Handler, *, public: bool = False) -> Route:
    return Route(method, re.compile(r"/api/v[01]" + path), endpoint, handler, public)


_ID = r"/(?P<id>\d+)"
ROUTES: tuple[Route, ...] = (
    _route("POST", "/bundles", "search", _search),
    _route("PUT", "/search/asks", "search", _search),
    _route("GET", "/gpu_names/unique", "gpu-names", _gpu_names, public=True),
    _route("GET", "/users/current", "user", _user),
    _route("GET", "/results/(?P<token>[A-Za-z0-9_-]+)", "result", _result, public=True),
    _route("PUT", "/asks" + _ID, "create", vast_rent.rent_one),
    _route("POST", "/asks/bulk", "create", vast_rent.rent_many),
    _route("GET", "/instances", "list", vast_instances.list_instances),
    _route("PUT", "/instances", "manage", vast_instances.manage_many),
    _route("DELETE", "/instances", "destroy", vast_instances.destroy_many),
    _route("GET", "/instances/filters", "filters", vast_instances.filters),
    _route("GET", "/instances/pending-price-increases", "price-increases", _no_price_increases),
    _route("GET", "/instances" + _ID, "show", vast_instances.show),
    _route("PUT", "/instances" + _ID, "manage", vast_instances.manage_one),
    _route("DELETE", "/instances" + _ID, "destroy", vast_instances.destroy_one),
    _route("PUT", "/instances/reboot" + _ID, "reboot", vast_instances.reboot),
    _route("PUT", "/instances/recycle" + _ID, "recycle", vast_instances.reboot),
    _route("PUT", "/instances/bid_price" + _ID, "bid", vast_instances.change_bid),
    _route("PUT", "/instances/request_logs" + _ID, "logs", vast_instances.request_logs),
    _route("PUT", "/instances/command" + _ID, "execute", vast_instances.execute),
    _route("GET", "/instances" + _ID + "/ssh", "ssh-list", vast_keys.instance_keys),
    _route("POST", "/instances" + _ID + "/ssh", "ssh-attach", vast_keys.attach),
    _route("DELETE", "/instances" + _ID + r"/ssh/(?P<key>\d+)", "ssh-detach", vast_keys.detach),
    _route("GET", "/ssh", "ssh-list", vast_keys.account_keys),
    _route("POST", "/ssh", "ssh-create", vast_keys.create),
    _route("PUT", "/ssh" + _ID, "ssh-create", vast_keys.update),
    _route("DELETE", "/ssh" + _ID, "ssh-detach", vast_keys.delete),
)
# what the key of one instance may do to that instance
_OWN_KEY_MAY = frozenset({"manage", "destroy", "show"})


class VastFront:
    """`async (Request) -> Answer | None`; None: the connection breaks unanswered."""

    def __init__(self, context: VastContext, token: str, pacer: Pacer) -> None:
        self.context = context
        self.faults = context.faults
        self.calls: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self._token = token
        self._pacer = pacer
        self._refusals = 0

    async def __call__(self, request: Request) -> Answer | None:
        found = self._find(request)
        name = found[0].endpoint if found else "unknown"
        self.calls[name] += 1
        result = await self._answer(request, found)
        self.statuses[f"{name} {result.status if result else 'broken'}"] += 1
        return result

    def _find(self, request: Request) -> tuple[Route, re.Match[str]] | None:
        for route in ROUTES:
            match = route.pattern.fullmatch(request.path)
            if match and route.method == request.method:
                return route, match
        return None

    async def _answer(self, request: Request, found: tuple[Route, re.Match[str]] | None) -> Answer | None:
        if found is None:
            return error(404, "not_found", f"No such endpoint: {request.method} {request.path}")
        route, match = found
        if not route.public:
            refused = self._refuse(request, route, match)
            if refused:
                return refused
        before = await self._fault_before(route)
        if before is not _GO_ON:
            return before if isinstance(before, Answer) else None
        result = await self._act(request, route, match)
        return await self._fault_after(route, result)

    async def _act(self, request: Request, route: Route, match: re.Match[str]) -> Answer:
        self.context.world.tick()
        try:
            return await route.handler(self.context, request, match)
        except BadRequest as problem:
            return error(400, "invalid_args", str(problem))
        except Refused as problem:
            status, code = {
                "no_such_contract": (404, "no_such_instance"),
                "no_credit": (400, "insufficient_credit"),
            }.get(problem.code, (400, "invalid_args"))
            return error(status, code, f"error {status}/3603: {code} {problem}")

    # -- who may call, and how often --------------------------------------------------------------

    def _refuse(self, request: Request, route: Route, match: re.Match[str]) -> Answer | None:
        token = request.bearer or request.query.get("api_key", "")
        if not token and route.endpoint == "search":
            return self._pace(route, f"anonymous {request.client}")
        full = secrets.compare_digest(token.encode(), self._token.encode())
        owner = None if full or not token else self._owner(token)
        if self.faults.hit("bad-key", route.endpoint) or not (full or owner):
            status = 404 if route.endpoint == "search" else 401
            return error(status, "auth_error", "Invalid user key")
        if owner and not (route.endpoint in _OWN_KEY_MAY and match.groupdict().get("id") == str(owner)):
            return error(403, "permission_denied", "This API key may not do that.")
        return self._pace(route, f"{token} {request.client}")

    def _owner(self, token: str) -> int | None:
        for contract in self.context.world.state.contracts.values():
            alive = contract.api_key and contract.destroyed_at is None
            if alive and secrets.compare_digest(contract.api_key.encode(), token.encode()):
                return contract.id
        return None

    def _pace(self, route: Route, identity: str) -> Answer | None:
        wait_s = self._pacer.wait_s(route.endpoint, identity)
        return self._too_frequent(wait_s) if wait_s else None

    def _too_frequent(self, wait_s: float) -> Answer:
        """One of the three bodies that clients have met, in turn; the second also says when to come back."""
        self._refusals += 1
        text = f"API requests too frequent endpoint threshold={max(wait_s, 0.1):.1f}"
        shape = self._refusals % 3
        if shape == 1:
            return answer(429, {"detail": text})
        if shape == 2:
            return Answer(429, text.encode(), TEXT, {"retry-after": str(math.ceil(wait_s))})
        return Answer(429, b"<html><head><title>429 Too Many Requests</title></head></html>", HTML)

    # -- faults of the provider ---------------------------------------------------------------------

    async def _fault_before(self, route: Route) -> Answer | object | None:
        faults, name = self.faults, route.endpoint
        if fault := faults.hit("api-429", name):
            return self._too_frequent(number_of(fault, "retry_after_s", 1.0))
        if name == "search" and faults.hit("quota", name):
            reset = int(self.context.world.clock.now() // 86_400 + 1) * 86_400
            return answer(429, {"error": "search_quota_exceeded"}, X_RateLimit_Reset=str(reset))
        if faults.hit("api-500", name):
            return Answer(500, b"Internal Server Error", TEXT)
        if fault := faults.hit("html-body", name):
            page = b"<!DOCTYPE html><html><body>Checking your browser</body></html>"
            return Answer(int(number_of(fault, "status", 200)), page, HTML)
        if fault := faults.hit("api-timeout", name):
            await asyncio.sleep(number_of(fault, "hold_s", 10.0))
            return None
        return _GO_ON

    async def _fault_after(self, route: Route, result: Answer) -> Answer | None:
        name = route.endpoint
        if name == "create" and result.status == 200 and (fault := self.faults.hit("created-but-error", name)):
            return await self._lose_answer(fault, result)
        if name in ("search", "list", "show") and result.status == 200:
            result = self._change_rows(name, result)
        return result

    async def _lose_answer(self, fault: FaultRecord, result: Answer) -> Answer | None:
        """The machine is made, and who asked for it does not hear so, or hears it late."""
        await asyncio.sleep(number_of(fault, "hold_s", 0.0))
        how = str(fault.options.get("answer", "500"))
        if how == "late":
            return result
        made = json.loads(result.body)
        for number in made.get("new_contracts", [made.get("new_contract")]):
            self.context.living(number).answered_at = None
        if how == "break":
            return None
        return Answer(500, b'{"success":false,"error":"internal_error","msg":"Something went wrong"}')

    def _change_rows(self, name: str, result: Answer) -> Answer:
        malformed = self.faults.hit("malformed-row", name)
        broken = int(number_of(malformed, "rows", 1)) if malformed else 0
        everywhere, tainted = self.faults.hit("hostile-text", name) is not None, self.faults.tainted()
        skew_s = self.faults.skew_s()
        if not (broken or everywhere or tainted or skew_s):
            return result
        value: dict[str, Any] = json.loads(result.body)
        rows = value.get("offers", value.get("instances"))
        rows = [rows] if isinstance(rows, dict) else rows or []
        for row in rows:
            for field in ("start_date", "end_date"):
                if isinstance(row.get(field), int | float):
                    row[field] += skew_s
        taint_rows([row for row in rows if everywhere or row.get("id") in tainted])
        spoil_rows(rows, broken)
        return replace(result, body=json.dumps(value).encode())


_GO_ON = object()
