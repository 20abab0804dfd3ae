"""Watching an operation to its end. One rule: watching is free; who stops watching stops nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from core.cli.output import one_line, seconds
from core.cli.session import Session, is_terminal
from core.client import EngineClient
from core.domain import api
from core.domain.errors import EngineError, UnderstudyError
from core.domain.operations import Operation, Step
from core.domain.state import State, apply
from core.launch import ensure_engine, wait_engine

_REJOIN_S = 0.2
_REJOINS_MAX = 20
_TICK_S = 0.2
_RETURN_S = 5.0  # an engine that was stopped to be started anew is back by then: it starts in less than 2 s
_GLYPHS = {"done": "✓", "failed": "✗", "running": "…"}


class OperationFailed(UnderstudyError):
    """An operation ended failed or cancelled; the sentence is its reason."""


class EngineStopped(EngineError):
    """Somebody stopped the engine, as against: it died. It is not started again behind their back."""


class Timeline:
    """Steps as they come, one line each on stderr, with seconds; the running one counts in place."""

    def __init__(self) -> None:
        self._printed = 0
        self._open = False
        self._live = is_terminal()
        ascii_only = (sys.stderr.encoding or "").lower().replace("-", "") not in ("utf8", "utf8sig")
        self._glyphs = {"done": "+", "failed": "x", "running": "."} if ascii_only else _GLYPHS

    def show(self, operation: Operation | None, now: float) -> None:
        if not self._live or operation is None:
            return
        ended = [s for s in operation.steps if s.state != "running"]
        for step in ended[self._printed :]:
            self._clear()
            print(self._line(step, step.took_s), file=sys.stderr, flush=True)
        self._printed = len(ended)
        running = next((s for s in operation.steps if s.state == "running"), None)
        if running is not None and operation.state == "running":
            self._clear()
            print(self._line(running, now - running.started_at), end="", file=sys.stderr, flush=True)
            self._open = True

    def close(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._open:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._open = False

    def _line(self, step: Step, took_s: float | None) -> str:
        line = f"  {self._glyphs[step.state]} {step.name:<27}{seconds(took_s) or '':>7}  {step.detail}"
        return one_line(line)[:118].rstrip()


def to_end(session: Session, operation: str) -> Operation:
    """Waits until the operation has ended, showing its steps to whoever looks. Ctrl-C stops watching only."""
    timeline = Timeline()
    try:
        return session.run(_watch(session, operation, timeline.show))
    except KeyboardInterrupt:
        timeline.close()
        session.out.note(f"It goes on. Watch it again: understudy operations show {operation} --watch")
        raise
    finally:
        timeline.close()


def check(operation: Operation) -> None:
    """Raises OperationFailed when it did not end well."""
    if operation.state == "failed":
        raise OperationFailed(operation.reason or f"The operation {operation.id} failed.", hint=_steps_hint(operation))
    if operation.state == "cancelled":
        raise OperationFailed(f"The operation {operation.id} was cancelled.", hint=_steps_hint(operation))


def _steps_hint(operation: Operation) -> str:
    return f"Step by step: understudy operations show {operation.id}."


async def _watch(session: Session, operation: str, shown: Callable[[Operation | None, float], None]) -> Operation:
    """Follows the engine's stream; an engine that dies is started again, since the operation goes on with it."""
    state = State()
    rejoins = 0
    while True:
        client = EngineClient(session.home)
        try:
            found = await _follow(client, operation, state, shown)
            if found is not None:
                return found
        except EngineStopped as stopped:
            await _back(session, operation, stopped)
            continue
        except EngineError:
            rejoins += 1
            if rejoins > _REJOINS_MAX:
                raise
        await asyncio.sleep(_REJOIN_S)
        await asyncio.to_thread(ensure_engine, session.home)


async def _back(session: Session, operation: str, stopped: EngineStopped) -> None:
    """Returns when the engine is there again; raises `stopped` when it stays away."""
    try:
        await asyncio.to_thread(wait_engine, session.home, None, wait_s=_RETURN_S)
    except EngineError:
        stopped.hint = f"Start it and watch on: understudy operations show {operation} --watch."
        raise stopped from None


async def _follow(
    client: EngineClient, operation: str, state: State, shown: Callable[[Operation | None, float], None]
) -> Operation | None:
    """The ended operation, or None when the stream ended first."""
    ticking = asyncio.create_task(_tick(state, operation, shown))
    try:
        async with aclosing(cast(AsyncGenerator[api.Update, None], client.stream())) as updates:
            async for update in updates:
                known = await _folded(client, operation, state, update)
                if known is not None and known.state != "running":
                    shown(known, time.time())
                    return known
    finally:
        ticking.cancel()
    return None


async def _folded(client: EngineClient, operation: str, state: State, update: api.Update) -> Operation | None:
    """Raises NotFoundError for an operation that the engine does not know, EngineStopped."""
    if isinstance(update, api.Snapshot):
        _take(state, update.state)
        if operation not in state.operations:
            return await client.operation(operation)
    elif isinstance(update, api.Delta):
        for fact in update.facts:
            apply(state, fact)
    elif isinstance(update, api.End) and update.reason == "closing":
        raise EngineStopped("The engine was stopped; the operation goes on when it starts again.")
    return state.operations.get(operation)


async def _tick(state: State, operation: str, shown: Callable[[Operation | None, float], None]) -> None:
    while True:
        shown(state.operations.get(operation), time.time())
        await asyncio.sleep(_TICK_S)


def _take(state: State, new: State) -> None:
    for name in State.__struct_fields__:
        setattr(state, name, getattr(new, name))
