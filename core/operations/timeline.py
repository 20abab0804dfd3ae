"""Steps that can be watched: each says that it started, and how it ended, as facts of ours.

One rule: a step may run again after a crash; it counts its attempts and is idempotent by the ledger, not by luck.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import msgspec
from dbos import DBOS

from core.domain.errors import IntentRefused, UnderstudyError
from core.domain.events import Said
from core.operations.codec import durable
from core.operations.context import ctx
from core.operations.durable import MAX_RECOVERY_ATTEMPTS

P = ParamSpec("P")


@durable
class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended, as a value: a branch on it is the same on replay. `final`: trying elsewhere will not help."""

    ok: bool
    detail: str = ""
    final: bool = False
    counts: bool = True


O = TypeVar("O", bound=Outcome)  # noqa: E741 - the conventional letter of an outcome


def step(name: str) -> Callable[[Callable[P, Awaitable[O]]], Callable[P, Awaitable[O]]]:
    """Makes a function a durable step with its two facts. It returns an Outcome; what it raises fails the operation."""

    def wrap(function: Callable[P, Awaitable[O]]) -> Callable[P, Awaitable[O]]:
        @DBOS.step(name=f"{function.__module__}.{function.__qualname__}")
        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> O:
            started = await _started(name)
            try:
                outcome = await function(*args, **kwargs)
            except asyncio.CancelledError:
                raise
            except Exception as e:
                await _ended(name, started, ok=False, detail=str(e))
                raise
            await _ended(name, started, ok=outcome.ok, detail=outcome.detail)
            return outcome

        return run

    return wrap


def _operation() -> str:
    operation = DBOS.workflow_id
    if operation is None:
        raise RuntimeError("a step runs only inside an operation")
    return operation


async def _started(name: str) -> tuple[float, int]:
    operation = _operation()
    known = ctx().store.state.operations.get(operation)
    before = [s for s in known.steps if s.name == name and s.state == "running"] if known else []
    attempt = before[-1].attempt + 1 if before else 1
    workspace = known.workspace if known else None
    detail = {"step": name, "attempt": attempt}
    await ctx().store.say(Said(kind="step_started", operation=operation, workspace=workspace, detail=detail))
    return ctx().clock(), attempt


async def _ended(name: str, started: tuple[float, int], *, ok: bool, detail: str) -> None:
    operation = _operation()
    known = ctx().store.state.operations.get(operation)
    at, attempt = started
    body = {"step": name, "attempt": attempt, "started_at": at, "took_s": ctx().clock() - at, "detail": detail}
    kind = "step_done" if ok else "step_failed"
    workspace = known.workspace if known else None
    await ctx().store.say(Said(kind=kind, operation=operation, workspace=workspace, detail=body))


def operation(name: str) -> Callable[[Callable[P, Awaitable[Outcome]]], Callable[P, Awaitable[Outcome]]]:
    """Makes a function a durable workflow that ends done or failed in the journal, exactly once."""

    def wrap(function: Callable[P, Awaitable[Outcome]]) -> Callable[P, Awaitable[Outcome]]:
        @DBOS.workflow(name=name, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> Outcome:
            try:
                outcome = await function(*args, **kwargs)
            except UnderstudyError as e:
                outcome = Outcome(ok=False, detail=str(e), final=True)
            await _close(outcome)
            return outcome

        return run

    return wrap


@DBOS.step(name="core.operations.timeline.close")
async def _close(outcome: Outcome) -> Outcome:
    """Says the end once: an operation that was cancelled meanwhile stays cancelled."""
    operation = _operation()
    known = ctx().store.state.operations.get(operation)
    if known is not None and known.state == "running":
        kind = "operation_done" if outcome.ok else "operation_failed"
        detail = {"kind": known.kind, "reason": None if outcome.ok else outcome.detail}
        await ctx().store.say(
            Said(kind=kind, operation=operation, workspace=known.workspace, machine=known.machine, detail=detail)
        )
    return outcome


def valid_id(operation: str) -> str:
    """A client-made id that can be part of a label. Raises IntentRefused."""
    if not 1 <= len(operation) <= 80 or not all(c.isalnum() or c in "-_" for c in operation) or not operation.isascii():
        raise IntentRefused("An operation's id is 1 to 80 letters, digits, '-' and '_'.")
    return operation
