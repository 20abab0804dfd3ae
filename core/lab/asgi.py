"""Requests and answers of the fronts as plain values.

Its one rule: the bytes on the wire are the front's own, down to the exact Content-Type.

A front is `async (Request) -> Answer | None`; None means that the connection breaks without an answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

MAX_BODY_BYTES = 1 << 20
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BadRequest(Exception):
    """The request cannot be understood; the message says why."""


@dataclass(frozen=True)
class Request:
    """One request. `path` has no trailing slash; `port` is the one that was connected to."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    client: str
    port: int

    def json(self) -> dict[str, Any]:
        """The body as an object; an empty body is an empty one. Raises BadRequest."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise BadRequest("The body is not JSON.") from error
        if not isinstance(value, dict):
            raise BadRequest("The body is not a JSON object.")
        return value

    @property
    def bearer(self) -> str:
        """The bearer token, or an empty string."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""


@dataclass(frozen=True)
class Answer:
    """One answer, bytes and all."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def answer(status: int, value: object, **headers: str) -> Answer:
    """A JSON answer."""
    return Answer(status, json.dumps(value).encode(), JSON, {k.replace("_", "-"): v for k, v in headers.items()})


def is_local(request: Request) -> bool:
    """Whether Host names loopback, and Origin (if a browser sent one) does too: guards against pages that rebind
    names.
    """
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0] if ":" in host else host
    if name not in ("127.0.0.1", "localhost"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin in (f"http://{host}", f"http://127.0.0.1:{request.port}")


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Take a whole request off the connection. Raises BadRequest for a body over MAX_BODY_BYTES."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest("The body is too large.")
        if not message.get("more_body"):
            break
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    return Request(
        method=scope["method"],
        path=scope["path"].rstrip("/") or "/",
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers={k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
        body=body,
        client=client[0],
        port=server[1],
    )


async def send_answer(send: Send, what: Answer, now: float) -> None:
    """Put an answer on the wire; `now` (epoch seconds) becomes its Date."""
    headers = {
        "content-type": what.content_type,
        "content-length": str(len(what.body)),
        "date": formatdate(now, usegmt=True),
        **what.headers,
    }
    raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": what.status, "headers": raw})
    await send({"type": "http.response.body", "body": what.body})


async def break_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection without an answer (a reset for the client); returns when it is closed."""
    abort: Callable[[], None] = scope["state"]["abort"]
    abort()
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
