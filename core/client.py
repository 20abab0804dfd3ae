"""EngineClient: the one door to the engine for the console and the command line.

Typed calls and the event stream over the engine's Unix socket. One rule: every error that leaves here is an
UnderstudyError with a sentence; the engine's own errors come back as the class they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import h11
import msgspec

from core.domain import api
from core.domain.errors import EngineError, UnderstudyError, all_kinds
from core.domain.market import HostHistory, PriceHistory
from core.domain.operations import Operation
from core.domain.readings import TelemetryPoint
from core.home import Home

T = TypeVar("T")

CALL_TIMEOUT_S = 30.0
SILENCE_S = 6.0  # three heartbeats of the stream
READ_BYTES = 256 * 1024
_ENGINE_HINT = "Start it with: understudy engine start."

_update = msgspec.json.Decoder(api.Update)


class EngineClient:
    """Stateless: each call opens its own connection to the socket, so an engine that restarted is simply reached."""

    def __init__(self, home: Home) -> None:
        self.home = home

    # -- reading -------------------------------------------------------------------------------------------------

    async def hello(self) -> api.Hello:
        """Raises EngineError when nobody answers, or when engine and client speak no common version."""
        hello = await self._get("/hello", api.Hello)
        _check_version(hello)
        return hello

    async def state(self) -> api.Snapshot:
        return await self._get("/state", api.Snapshot)

    async def offers(self, wanted: api.OfferFilter | None = None) -> api.OffersReply:
        query = msgspec.to_builtins(wanted or api.OfferFilter())
        return await self._get("/offers", api.OffersReply, query)

    async def prices(self, price_class: str) -> PriceHistory:
        return await self._get("/prices", PriceHistory, {"price_class": price_class})

    async def host(self, provider: str, host_id: str) -> HostHistory:
        return await self._get(f"/hosts/{quote(provider)}/{quote(host_id, safe='')}", HostHistory)

    async def operation(self, operation: str) -> Operation:
        return await self._get(f"/operations/{quote(operation, safe='')}", Operation)

    async def journal(
        self, *, since: int = 0, since_at: float = 0.0, limit: int = 500, workspace: str | None = None
    ) -> api.JournalPage:
        """Facts with `seq > since`, oldest first; with `limit` < 0 the newest -limit of them."""
        query = {"since": since, "since_at": since_at, "limit": limit, "workspace": workspace}
        return await self._get("/journal", api.JournalPage, query)

    async def telemetry(self, machine: str, *, since_at: float = 0.0) -> list[TelemetryPoint]:
        return await self._get(f"/machines/{quote(machine)}/telemetry", list[TelemetryPoint], {"since_at": since_at})

    async def machine_log(self, machine: str, *, lines: int = 200) -> api.MachineLog:
        return await self._get(f"/machines/{quote(machine)}/log", api.MachineLog, {"lines": lines})

    async def provider_log(self, machine: str, *, lines: int = 200) -> api.MachineLog:
        """What the provider itself logged about the machine's start."""
        return await self._get(f"/machines/{quote(machine)}/provider-log", api.MachineLog, {"lines": lines})

    async def endpoint(self, workspace_or_machine: str) -> api.Endpoint:
        """Raises NotFoundError, or IntentRefused while nothing there can be reached."""
        return await self._get(f"/endpoints/{quote(workspace_or_machine, safe='')}", api.Endpoint)

    async def doctor(self) -> api.DoctorReply:
        return await self._get("/doctor", api.DoctorReply)

    async def faults(self) -> list[dict[str, Any]]:
        """The lab's faults by name; refused outside a lab home."""
        return await self._get("/lab/faults", list[dict[str, Any]])

    # -- changing ------------------------------------------------------------------------------------------------

    async def plan(self, intent: api.UpIntent) -> api.Plan:
        return await self._post("/intents/plan", intent, api.Plan)

    async def up(self, intent: api.UpIntent) -> api.Accepted:
        return await self._post("/intents/up", intent, api.Accepted)

    async def down(self, intent: api.DownIntent) -> api.Accepted:
        return await self._post("/intents/down", intent, api.Accepted)

    async def machine(self, intent: api.MachineIntent) -> api.Accepted:
        return await self._post("/intents/machine", intent, api.Accepted)

    async def host_intent(self, intent: api.HostIntent) -> api.Accepted:
        return await self._post("/intents/host", intent, api.Accepted)

    async def budget(self, intent: api.BudgetIntent) -> api.Accepted:
        return await self._post("/intents/budget", intent, api.Accepted)

    async def secret(self, intent: api.SecretIntent) -> api.Accepted:
        return await self._post("/intents/secret", intent, api.Accepted)

    async def fault(self, intent: api.FaultIntent) -> dict[str, Any]:
        return await self._post("/intents/fault", intent, dict[str, Any])

    async def cancel(self, intent: api.Intent, operation: str) -> api.Accepted:
        return await self._post(f"/operations/{quote(operation, safe='')}/cancel", intent, api.Accepted)

    async def stop_engine(self) -> None:
        await self._post("/intents/stop-engine", api.Intent(operation="stop"), api.Accepted)

    # -- the stream ----------------------------------------------------------------------------------------------

    async def stream(self, since: int = 0) -> AsyncIterator[api.Update]:
        """Hello, then a Snapshot (or, when `since` is recent, the Deltas from there), then Deltas for ever.

        Ends after End; raises EngineError when the engine goes away or is silent for three heartbeats.
        """
        async with self._request("GET", "/events?" + urlencode({"since": since}), b"") as chunks:
            parts: list[bytes] = []  # of a line that has not ended yet: a large fleet's is longer than many chunks
            while True:
                chunk = await _next(chunks, SILENCE_S)
                if chunk is None:
                    raise EngineError("The engine closed the connection.", hint=_ENGINE_HINT)
                parts.append(chunk)
                if b"\n" not in chunk:
                    continue
                *lines, rest = b"".join(parts).split(b"\n")
                parts = [rest]
                for line in lines:
                    update = _update.decode(line)
                    if isinstance(update, api.Hello):
                        _check_version(update)
                    yield update
                    if isinstance(update, api.End):
                        return

    # -- the wire ------------------------------------------------------------------------------------------------

    async def _get(self, path: str, kind: type[T], query: dict[str, Any] | None = None) -> T:
        words = {k: v for k, v in (query or {}).items() if v is not None}
        return await self._call("GET", f"{path}?{urlencode(words)}" if words else path, b"", kind)

    async def _post(self, path: str, body: Any, kind: type[T]) -> T:
        return await self._call("POST", path, msgspec.json.encode(body), kind)

    async def _call(self, method: str, path: str, body: bytes, kind: type[T]) -> T:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), self._request(method, path, body) as chunks:
                parts = [chunk async for chunk in chunks]
        except TimeoutError as e:
            raise EngineError(f"The engine did not answer within {CALL_TIMEOUT_S:.0f} s.", hint=_ENGINE_HINT) from e
        return _decoded(b"".join(parts), kind)

    @asynccontextmanager
    async def _request(self, method: str, path: str, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.home.socket), limit=READ_BYTES)
        except OSError as e:
            raise EngineError("The engine is not running.", hint=_ENGINE_HINT) from e
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", "understudy"), ("Content-Length", str(len(body))), ("Connection", "close")]
        if body:
            headers.append(("Content-Type", "application/json"))
        try:
            writer.write(http.send(h11.Request(method=method, target=path, headers=headers)) or b"")
            if body:
                writer.write(http.send(h11.Data(data=body)) or b"")
            writer.write(http.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            chunks = _events(reader, http)
            status = await anext(chunks)
            if status != b"ok":
                parts = [chunk async for chunk in chunks]
                raise _problem(int(status), b"".join(parts))
            yield chunks
        except (OSError, h11.RemoteProtocolError, asyncio.IncompleteReadError) as e:
            raise EngineError("The engine went away.", hint=_ENGINE_HINT) from e
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _events(reader: asyncio.StreamReader, http: h11.Connection) -> AsyncIterator[bytes]:
    """First `ok` or the status code, then the body's bytes as they come."""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            yield b"ok" if event.status_code < 300 else str(event.status_code).encode()
        elif isinstance(event, h11.Data):
            yield bytes(event.data)
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return


async def _next(chunks: AsyncIterator[bytes], timeout_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(timeout_s):  # wait_for would make a task for each chunk
            return await anext(chunks)
    except StopAsyncIteration:
        return None
    except TimeoutError as e:
        raise EngineError(f"The engine has been silent for {timeout_s:.0f} s.", hint=_ENGINE_HINT) from e


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as e:
        raise EngineError(
            "The engine's answer is not understood; console and engine are probably of different versions.",
            hint="Restart the engine: understudy engine stop, then understudy engine start.",
        ) from e


def _problem(status: int, body: bytes) -> UnderstudyError:
    try:
        problem = msgspec.json.decode(body, type=api.Problem)
    except msgspec.DecodeError:
        return EngineError(
            f"The engine answered with HTTP {status}.", hint="Its log says more: engine.log in the home."
        )
    kind = all_kinds().get(problem.kind, UnderstudyError)
    error = kind.__new__(kind)
    Exception.__init__(error, problem.message)
    error.hint = problem.hint
    error.__dict__.update(problem.extra)
    return error


def _check_version(hello: api.Hello) -> None:
    if hello.protocol_oldest <= api.PROTOCOL and hello.protocol >= api.PROTOCOL_OLDEST:
        return
    raise EngineError(
        f"The engine (version {hello.version}) speaks protocol {hello.protocol_oldest}-{hello.protocol}, "
        f"this console {api.PROTOCOL_OLDEST}-{api.PROTOCOL}.",
        hint="Restart the engine: understudy engine stop, then understudy engine start. Machines keep running.",
    )
