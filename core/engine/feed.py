"""The feed: facts in order and none missing; readings by key, latest wins.

A subscriber that reads slowly keeps one value per key and a bounded queue of facts; beyond that its stream is ended and
it comes again. One rule: nobody's slowness costs the engine or another reader anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

import msgspec

from core.domain.api import Delta, End, Hello, Snapshot
from core.domain.events import Fact
from core.domain.market import MarketStatus
from core.domain.readings import MachineReading
from core.domain.state import State

FACTS_MAX = 2_000
PERIOD_S = 0.2
HEARTBEAT_S = 2.0
KEYS_PER_BLOCK = 200  # a block stays small enough to be replaced by newer readings while a slow reader takes it

_encode = msgspec.json.Encoder().encode


class _Subscriber:
    __slots__ = ("ended", "facts", "markets", "readings", "wake")

    def __init__(self) -> None:
        self.readings: dict[str, MachineReading] = {}
        self.markets: dict[str, MarketStatus] = {}
        self.facts: deque[Fact] = deque()
        self.wake = asyncio.Event()
        self.ended: Literal["behind", "closing"] | None = None


class Feed:
    """`readings` and `markets` are the latest values; `state` and `journal` are asked when a reader comes."""

    def __init__(self, state: Callable[[], State], journal: Callable[[int], Awaitable[list[Fact]]]) -> None:
        self.readings: dict[str, MachineReading] = {}
        self.markets: dict[str, MarketStatus] = {}
        self._state = state
        self._journal = journal
        self._subscribers: set[_Subscriber] = set()
        self._closing = False

    @property
    def readers(self) -> int:
        return len(self._subscribers)

    def reading(self, machine_id: str, value: MachineReading) -> None:
        self.readings[machine_id] = value
        for s in self._subscribers:
            s.readings[machine_id] = value
            s.wake.set()

    def market(self, value: MarketStatus) -> None:
        self.markets[value.provider] = value
        for s in self._subscribers:
            s.markets[value.provider] = value
            s.wake.set()

    def forget(self, machine_id: str) -> None:
        self.readings.pop(machine_id, None)

    def fact(self, fact: Fact) -> None:
        for s in self._subscribers:
            if len(s.facts) >= FACTS_MAX:
                s.ended = "behind"
            else:
                s.facts.append(fact)
            s.wake.set()

    def close(self) -> None:
        """Ends every stream with a word."""
        self._closing = True
        for s in self._subscribers:
            s.ended = "closing"
            s.wake.set()

    async def stream(self, hello: Hello, since: int) -> AsyncGenerator[bytes, None]:
        """NDJSON lines. The caller must close it (`aclosing`), or its subscriber lives until it is collected."""
        if self._closing:
            yield _encode(hello) + b"\n" + _encode(End(reason="closing")) + b"\n"
            return
        s = _Subscriber()
        self._subscribers.add(s)  # before anything is read: what is said meanwhile arrives twice, never not at all
        try:
            yield _encode(hello) + b"\n"
            line, seq = await self._beginning(since)
            yield line
            while True:
                yield await self._block(s, seq)
                if s.ended:
                    yield _encode(End(reason=s.ended)) + b"\n"
                    return
                await asyncio.sleep(PERIOD_S)
        finally:
            self._subscribers.discard(s)

    async def _beginning(self, since: int) -> tuple[bytes, int]:
        """The facts since then when they are few, the whole state when they are many or too old; and up to where."""
        state = self._state()
        if 0 < since <= state.seq and state.seq - since <= FACTS_MAX:
            old = await self._journal(since)
            line = _encode(Delta(facts=old, readings=self.readings, markets=self.markets)) + b"\n"
            return line, old[-1].seq if old else since
        return _encode(Snapshot(state=state, readings=self.readings, markets=self.markets)) + b"\n", state.seq

    async def _block(self, s: _Subscriber, seq: int) -> bytes:
        try:
            await asyncio.wait_for(s.wake.wait(), HEARTBEAT_S)
        except TimeoutError:
            return _encode(Delta()) + b"\n"
        s.wake.clear()
        facts, s.facts = s.facts, deque()
        readings, s.readings = _cut(s.readings)
        markets, s.markets = s.markets, {}
        if s.readings:
            s.wake.set()
        return _encode(Delta(facts=[f for f in facts if f.seq > seq], readings=readings, markets=markets)) + b"\n"


def _cut(readings: dict[str, MachineReading]) -> tuple[dict[str, MachineReading], dict[str, MachineReading]]:
    """At most so many keys now, the oldest first; the rest next time, replaced meanwhile by what is newer."""
    if len(readings) <= KEYS_PER_BLOCK:
        return readings, {}
    keys = list(readings)
    return {k: readings[k] for k in keys[:KEYS_PER_BLOCK]}, {k: readings[k] for k in keys[KEYS_PER_BLOCK:]}
