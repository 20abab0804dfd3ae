"""An engine's socket that answers from a scenario: real HTTP over a real Unix socket, read by the real EngineClient.

One rule: it decides nothing; what it answers was folded from facts, and what it is asked is kept for the test to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import h11
import msgspec

from core.domain import api
from core.domain.errors import UnderstudyError
from core.domain.market import HostHistory
from core.home import Home
from core.operations.timeline import valid_id
from tests.screens.scenario import Scenario

HEARTBEAT_S = 1.0


class SocketEngine:
    """`asked` holds (method, path, body) of every intent; `refuse` maps a path to the error it answers with."""

    def __init__(self, scenario: Scenario, home: Home) -> None:
        self.scenario = scenario
        self.home = home
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, UnderstudyError] = {}
        self.faults = [
            {"name": "kill", "what": "every process of the machine dies"},
            {"name": "hang", "what": "the machine stops answering, its connections stay"},
        ]
        self.endpoints: dict[str, api.Endpoint] = {}
        self.hold = asyncio.Event()
        self.hold.set()
        self._streams: set[asyncio.Queue[api.Update | None]] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.home.create()
        self._server = await asyncio.start_unix_server(self._serve, str(self.home.socket))

    async def stop(self) -> None:
        """As kill -9 would: the socket is gone and every stream ends."""
        if self._server is not None:
            self._server.close()
            for queue in self._streams:
                queue.put_nowait(None)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self.home.socket.unlink(missing_ok=True)
            self._server = None

    def tell(self, update: api.Update) -> None:
        for queue in self._streams:
            queue.put_nowait(update)

    def tell_facts(self, since: int) -> None:
        """The scenario's facts after `since`, and its latest readings."""
        facts = [fact for fact in self.scenario.facts if fact.seq > since]
        self.tell(api.Delta(facts=facts, readings=dict(self.scenario.readings), markets=dict(self.scenario.markets)))

    # -- the wire ------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http, request, body = h11.Connection(h11.SERVER), None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return
        assert request is not None
        split = urlsplit(request.target.decode())
        query = {k: v[0] for k, v in parse_qs(split.query).items()}
        if split.path == "/events":
            await self._stream(http, writer)
            return
        await self.hold.wait()
        status, reply = self._reply(unquote(split.path), query, body)
        _send(http, writer, status, msgspec.json.encode(reply))
        await writer.drain()

    async def _stream(self, http: h11.Connection, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[api.Update | None] = asyncio.Queue()
        self._streams.add(queue)
        head = h11.Response(
            status_code=200, headers=[("Content-Type", "application/x-ndjson"), ("Connection", "close")]
        )
        writer.write(http.send(head) or b"")
        queue.put_nowait(self.scenario.hello())
        queue.put_nowait(self.scenario.snapshot())
        try:
            while (update := await _next(queue)) is not None:
                writer.write(http.send(h11.Data(data=msgspec.json.encode(update) + b"\n")) or b"")
                await writer.drain()
        finally:
            self._streams.discard(queue)

    # -- what it knows -------------------------------------------------------------------------------------------------

    def _reply(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        refused = self.refuse.get(path)
        if refused is not None:
            return 409, api.Problem(kind=refused.kind, message=str(refused), hint=refused.hint)
        if body:
            self.asked.append((path, msgspec.json.decode(body)))
            valid_id(str(self.asked[-1][1]["operation"]))
        parts = path.strip("/").split("/")
        s = self.scenario
        match parts:
            case ["hello"]:
                return 200, s.hello()
            case ["state"]:
                return 200, s.snapshot()
            case ["offers"]:
                return 200, api.OffersReply(offers=s.offers, providers=list(s.markets.values()))
            case ["prices"]:
                history = s.histories.get(query["price_class"])
                return 200, history or {"price_class": query["price_class"], "raw": [], "buckets": []}
            case ["hosts", provider, host_id]:
                empty = HostHistory(provider=provider, host_id=host_id)
                return 200, s.state.hosts.get(f"{provider}:{host_id}", empty)
            case ["journal"]:
                limit = int(query.get("limit", 500))
                kept = [f for f in s.facts if f.seq > int(query.get("since", 0))]
                return 200, api.JournalPage(facts=kept[limit:] if limit < 0 else kept[:limit])
            case ["machines", machine, "telemetry"]:
                since = float(query.get("since_at", 0.0))
                return 200, [p for p in s.telemetry.get(machine, []) if p.at >= since]
            case ["machines", machine, "log" | "provider-log" as which]:
                lines = s.logs.get(f"{machine}:{which}", [])
                return 200, api.MachineLog(path=f"/workspace/{which}" if lines else None, lines=lines, at=s.now)
            case ["endpoints", name] if name in self.endpoints:
                return 200, self.endpoints[name]
            case ["lab", "faults"]:
                return 200, self.faults
            case ["intents", "plan"]:
                return 200, s.plan
            case ["intents", "fault"]:
                return 200, {}
            case ["intents", _] | ["operations", _, "cancel"]:
                asked = self.asked[-1][1]
                return 200, api.Accepted(operation=str(asked["operation"]), workspace=asked.get("name"))
        return 404, api.Problem(kind="NotFoundError", message=f"There is no {path} here.")


async def _next(queue: asyncio.Queue[api.Update | None]) -> api.Update | None:
    """What is told next, or the heartbeat: an engine without one counts as gone, however slow the machine is."""
    try:
        return await asyncio.wait_for(queue.get(), HEARTBEAT_S)
    except TimeoutError:
        return api.Delta()


def _send(http: h11.Connection, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")


@asynccontextmanager
async def serving(scenario: Scenario, home: Home) -> AsyncIterator[SocketEngine]:
    engine = SocketEngine(scenario, home)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
