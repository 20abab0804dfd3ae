"""The only reader of the engine's event stream. Its one rule: it comes back by itself, and says how it stands.

One asyncio task, no thread and no message per datum: it writes the `Model`, and says that something changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from core.domain import api
from core.domain.errors import UnderstudyError
from tui.clock import Clock
from tui.model import Connection, Model

BACKOFF_S = (0.2, 0.5, 1.0, 2.0)
"""Waits between attempts; the last one repeats. The engine is on this machine: asking costs nothing."""
LATENCY_EVERY_S = 5.0
JOURNAL_LINES = 500
GONE_AFTER_ATTEMPTS = 2
"""So many failed attempts without ever a picture, and the engine is said to be gone."""


class Engine(Protocol):
    """What the bridge needs of `core.client.EngineClient`."""

    def stream(self, since: int = 0) -> AsyncIterator[api.Update]: ...

    async def hello(self) -> api.Hello: ...

    async def journal(
        self, *, since: int = 0, since_at: float = 0.0, limit: int = 500, workspace: str | None = None
    ) -> api.JournalPage: ...


class Bridge:
    """Keeps the model up to date for as long as `run` runs."""

    def __init__(
        self,
        engine: Engine,
        model: Model,
        changed: Callable[[bool], None],
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``changed(urgent)`` is called when the model was written; what is urgent is seen before the next pulse."""
        self.engine = engine
        self.model = model
        self._changed = changed
        self._clock = clock or Clock()
        self._sleep = sleep
        self._attempts = 0

    async def run(self) -> None:
        """Read the stream, and read it again whenever it ended. Returns only by being cancelled."""
        while True:
            try:
                await self._follow()
                reason, hint = "The engine closed the stream.", ""
            except UnderstudyError as error:
                reason, hint = str(error), error.hint
            self._lost(reason, hint)
            wait = BACKOFF_S[min(self._attempts, len(BACKOFF_S)) - 1]
            await self._sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret

    async def _follow(self) -> None:
        """One stream from its hello to its end."""
        beside: list[asyncio.Task[None]] = []
        updates = self.engine.stream()
        try:
            async for update in updates:
                self.model.received_at = self._clock.now()
                if isinstance(update, api.Snapshot) and not beside:
                    beside = [asyncio.create_task(self._measure()), asyncio.create_task(self._look_back())]
                self._take(update)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if isinstance(updates, AsyncGenerator):
                await updates.aclose()

    def _take(self, update: api.Update) -> None:
        if isinstance(update, api.Hello):
            self.model.hello = update
        elif isinstance(update, api.Snapshot):
            self.model.take_snapshot(update)
            self._attempts = 0
            self.model.connect(Connection("live", self._clock.now(), self.model.connection.latency_ms))
            self._changed(True)
        elif isinstance(update, api.Delta):
            self._changed(self.model.take_delta(update))

    def _lost(self, reason: str, hint: str) -> None:
        self._attempts += 1
        before = self.model.connection
        if before.state in ("live", "stale"):
            since = before.since if before.state == "stale" else (self.model.received_at or self._clock.now())
            now = Connection("stale", since, None, reason, hint, self._attempts)
        elif self._attempts >= GONE_AFTER_ATTEMPTS:
            now = Connection("gone", before.since, None, reason, hint, self._attempts)
        else:
            now = replace(before, reason=reason, hint=hint, attempts=self._attempts)
        self.model.connect(now)
        self._changed(True)

    async def _measure(self) -> None:
        """Ask for a hello now and then: how long the engine takes to answer is part of the picture."""
        while True:
            begun = self._clock.monotonic()
            try:
                await self.engine.hello()
            except UnderstudyError:
                return  # the stream itself says what is wrong
            self.model.measured((self._clock.monotonic() - begun) * 1000)
            self._changed(False)
            await self._sleep(LATENCY_EVERY_S)

    async def _look_back(self) -> None:
        """The newest facts from before this console was opened."""
        if self.model.events:
            return
        try:
            page = await self.engine.journal(limit=-JOURNAL_LINES)
        except UnderstudyError:
            return  # the stream itself says what is wrong
        self.model.take_journal(page.facts)
        self._changed(False)
