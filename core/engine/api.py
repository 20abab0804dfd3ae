"""The engine's API: thin handlers over the intents, the state and the feed. OpenAPI at /schema.

One rule: a handler decodes, calls one thing and encodes; every error leaves as a sentence (`Problem`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State as AppState
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.response import Stream

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError, UnderstudyError
from core.domain.market import HostHistory, PriceHistory
from core.domain.operations import Operation
from core.domain.readings import TelemetryPoint
from core.engine.ending import Ending
from core.engine.feed import Feed
from core.engine.labfaults import LabFaults
from core.engine.renting import Renting
from core.engine.rooms import Rooms
from core.engine.tending import Tending

log = logging.getLogger("understudy.api")
Req = Request[Any, Any, AppState]


@dataclass
class Parts:
    """What the handlers call; put together by the composition root."""

    hello: api.Hello
    feed: Feed
    rooms: Rooms
    renting: Renting
    ending: Ending
    tending: Tending
    faults: LabFaults
    stop: Any


def _parts(request: Req) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def _actor(request: Req) -> str:
    client = request.scope.get("client")
    return str(client[0]) if client else "nobody"


@get("/hello")
async def hello(request: Req) -> api.Hello:
    return _parts(request).hello


@get("/state")
async def state(request: Req) -> api.Snapshot:
    return _parts(request).rooms.snapshot()


@get("/events", media_type="application/x-ndjson")
async def events(request: Req, since: int = 0) -> Stream:
    parts = _parts(request)

    async def body() -> AsyncGenerator[bytes, None]:
        async with aclosing(parts.feed.stream(parts.hello, since)) as lines:
            async for line in lines:
                yield line

    return Stream(body(), media_type="application/x-ndjson")


@get("/journal")
async def journal(
    request: Req, since: int = 0, since_at: float = 0.0, limit: int = 500, workspace: str | None = None
) -> api.JournalPage:
    rooms = _parts(request).rooms
    return await rooms.journal(since=since, since_at=since_at, limit=limit, workspace=workspace)


@get("/offers")
async def offers(request: Req) -> api.OffersReply:
    wanted = msgspec.convert(dict(request.query_params), api.OfferFilter, strict=False)
    return await _parts(request).rooms.offers(wanted)


@get("/prices")
async def prices(request: Req, price_class: str) -> PriceHistory:
    return await _parts(request).rooms.prices(price_class)


@get("/hosts/{provider:str}/{host_id:str}")
async def host(request: Req, provider: str, host_id: str) -> HostHistory:
    return _parts(request).rooms.host(provider, host_id)


@get("/operations/{operation_id:str}")
async def operation(request: Req, operation_id: str) -> Operation:
    return _parts(request).rooms.operation(operation_id)


@get("/machines/{machine_id:str}/telemetry")
async def telemetry(request: Req, machine_id: str, since_at: float = 0.0) -> list[TelemetryPoint]:
    return await _parts(request).rooms.telemetry(machine_id, since_at)


@get("/machines/{machine_id:str}/log")
async def machine_log(request: Req, machine_id: str, lines: int = 200) -> api.MachineLog:
    return await _parts(request).rooms.machine_log(machine_id, lines)


@get("/machines/{machine_id:str}/provider-log")
async def provider_log(request: Req, machine_id: str, lines: int = 200) -> api.MachineLog:
    return await _parts(request).rooms.provider_log(machine_id, lines)


@get("/endpoints/{name:str}")
async def endpoint(request: Req, name: str) -> api.Endpoint:
    return _parts(request).rooms.endpoint(name)


@get("/doctor")
async def doctor(request: Req) -> api.DoctorReply:
    return await _parts(request).rooms.doctor()


@get("/lab/faults")
async def lab_faults(request: Req) -> list[dict[str, Any]]:
    return await _parts(request).faults.list()


@post("/intents/plan", status_code=200)
async def plan(request: Req, data: api.UpIntent) -> api.Plan:
    return await _parts(request).renting.plan(data, _actor(request))


@post("/intents/up", status_code=202)
async def up(request: Req, data: api.UpIntent) -> api.Accepted:
    return await _parts(request).renting.up(data, _actor(request))


@post("/intents/down", status_code=202)
async def down(request: Req, data: api.DownIntent) -> api.Accepted:
    return await _parts(request).ending.down(data, _actor(request))


@post("/intents/machine", status_code=202)
async def machine(request: Req, data: api.MachineIntent) -> api.Accepted:
    return await _parts(request).tending.machine(data, _actor(request))


@post("/intents/host", status_code=202)
async def host_intent(request: Req, data: api.HostIntent) -> api.Accepted:
    return await _parts(request).tending.host(data, _actor(request))


@post("/intents/budget", status_code=202)
async def budget(request: Req, data: api.BudgetIntent) -> api.Accepted:
    return await _parts(request).tending.budget(data, _actor(request))


@post("/intents/secret", status_code=202)
async def secret(request: Req, data: api.SecretIntent) -> api.Accepted:
    return await _parts(request).tending.secret(data, _actor(request))


@post("/intents/fault", status_code=202)
async def fault(request: Req, data: api.FaultIntent) -> dict[str, Any]:
    return await _parts(request).faults.start(data, _actor(request))


@post("/operations/{operation_id:str}/cancel", status_code=202)
async def cancel(request: Req, operation_id: str, data: api.Intent) -> api.Accepted:
    return await _parts(request).ending.cancel(data, operation_id, _actor(request))


@post("/intents/stop-engine", status_code=202)
async def stop_engine(request: Req, data: api.Intent) -> api.Accepted:
    _parts(request).stop()
    return api.Accepted(operation=data.operation)


def _refused(_: Req, error: UnderstudyError) -> Response[api.Problem]:
    extra = {k: v for k, v in error.__dict__.items() if k not in ("hint",) and isinstance(v, str | int | float | None)}
    problem = api.Problem(kind=error.kind, message=str(error), hint=error.hint, extra=extra)
    status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, IntentRefused) else 502
    return Response(problem, status_code=status)


def _malformed(_: Req, error: msgspec.ValidationError) -> Response[api.Problem]:
    return _problem("IntentRefused", f"The request is not understood: {error}.", 400)


def _unforeseen(_: Req, error: Exception) -> Response[api.Problem]:
    status = getattr(error, "status_code", 500)
    if status >= 500:
        log.error("unforeseen", exc_info=error)
        return _problem("EngineError", "The engine met an error that it did not foresee: see engine.log.", 500)
    return _problem("IntentRefused", f"The request is not understood: {getattr(error, 'detail', error)}.", status)


def _problem(kind: str, message: str, status: int) -> Response[api.Problem]:
    return Response(api.Problem(kind=kind, message=message), status_code=status)


HANDLERS = [
    hello,
    state,
    events,
    journal,
    offers,
    prices,
    host,
    operation,
    telemetry,
    machine_log,
    provider_log,
    endpoint,
    doctor,
    lab_faults,
    plan,
    up,
    down,
    machine,
    host_intent,
    budget,
    secret,
    fault,
    cancel,
    stop_engine,
]


def build(parts: Parts) -> Litestar:
    return Litestar(
        HANDLERS,
        state=AppState({"parts": parts}),
        openapi_config=OpenAPIConfig(
            title="Understudy engine",
            version=parts.hello.version,
            # the document alone: the usual pages around it load scripts from other people's servers
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        ),
        logging_config=None,
        exception_handlers={
            UnderstudyError: _refused,
            msgspec.ValidationError: _malformed,
            Exception: _unforeseen,
        },
    )
