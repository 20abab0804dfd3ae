"""What the console knows. Its one rule: only `Bridge` writes it; everything else reads it at paint time.

Plain Python, no toolkit and no messages: an update costs a dict write and a version, however many rows there are. Every
object has a version that rises when it changed; a topic is dirty when one of its objects did.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from core.domain.budget import Spend, spend
from core.domain.events import Fact, severity
from core.domain.market import MarketStatus
from core.domain.readings import MachineReading
from core.domain.state import State, apply

if TYPE_CHECKING:
    from core.domain import api

HISTORY_S = 60
"""How much of the past is kept here for curves; at one report a second this is the number of points."""
FULL_HISTORY_MACHINES = 64
"""Up to so many machines keep whole reports; in a larger fleet only the watched ones do, the others their load."""
EVENTS_KEPT = 2000
UNKNOWN = 255
"""A load that the driver did not report, in a byte."""

Topic = Literal[
    "connection",
    "latency",
    "workspaces",
    "machines",
    "strangers",
    "operations",
    "providers",
    "hosts",
    "budget",
    "readings",
    "markets",
    "events",
]
TOPICS: frozenset[str] = frozenset(Topic.__args__)  # type: ignore[attr-defined]

ConnectionState = Literal["connecting", "live", "stale", "gone"]


@dataclass(frozen=True)
class Connection:
    """How the console stands with its engine.

    ``stale``: there is a picture, but nothing new since ``since``. ``gone``: there is no engine and no picture.
    """

    state: ConnectionState
    since: float
    latency_ms: float | None = None
    reason: str = ""
    hint: str = ""
    attempts: int = 0


@dataclass
class Model:
    """The engine's state as far as it was told, the latest readings, and the last minute of them."""

    connection: Connection
    state: State = field(default_factory=State)
    hello: api.Hello | None = None
    readings: dict[str, MachineReading] = field(default_factory=dict)
    markets: dict[str, MarketStatus] = field(default_factory=dict)
    recent: dict[str, deque[MachineReading]] = field(default_factory=dict)
    loads: dict[str, deque[bytes]] = field(default_factory=dict)
    """Per machine the utilisation of each GPU in percent, one byte each, `UNKNOWN` where there is none."""
    events: deque[Fact] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    """The newest facts, oldest first."""
    unread: int = 0
    """Facts worth a look since the events were last looked at."""
    watched: set[str] = field(default_factory=set)
    """Machines whose whole reports are kept, whatever the size of the fleet."""
    received_at: float | None = None
    """When the engine was last heard, by this machine's clock."""
    _versions: dict[tuple[str, str], int] = field(default_factory=dict)
    _life: int = 0
    _machines_changed: int = 0
    _spent: tuple[tuple[int, int, int], Spend] | None = None
    _dirty: set[str] = field(default_factory=set)

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def lab(self) -> bool:
        """Whether everything shown is simulated."""
        return self.hello is not None and self.hello.lab

    @property
    def fresh(self) -> bool:
        """Whether what is shown is the engine's present word."""
        return self.connection.state == "live"

    def version(self, kind: str, key: str) -> tuple[int, float]:
        """Another one whenever the object of this kind and key changed; a row's stamp is made of it."""
        if kind == "readings":
            reading = self.readings.get(key)
            return self._life, 0.0 if reading is None else reading.at
        return self._life, self._versions.get((kind, key), 0)

    @property
    def at_risk(self) -> int:
        """Workspaces whose machine is in doubt, and lost machines that belong to none."""
        suspects = sum(1 for workspace in self.state.workspaces.values() if workspace.state == "suspect")
        alone = sum(1 for m in self.state.machines.values() if m.state == "lost" and m.workspace is None)
        return suspects + alone

    def spent(self, now: float) -> Spend:
        """What is billed now, to the second: asking again within it costs nothing."""
        asked = (int(now), self._life, self._machines_changed)
        if self._spent is None or self._spent[0] != asked:
            self._spent = (asked, spend(self.state.machines.values(), self.state.spend_by_month, now))
        return self._spent[1]

    def take_dirty(self) -> frozenset[str]:
        """The topics that changed since the last call."""
        taken = frozenset(self._dirty)
        self._dirty.clear()
        return taken

    @property
    def dirty(self) -> bool:
        """Whether anything changed since `take_dirty`."""
        return bool(self._dirty)

    @property
    def only_readings(self) -> bool:
        """Whether nothing but readings changed since `take_dirty`."""
        return self._dirty <= {"readings"}

    @property
    def large(self) -> bool:
        """Whether the fleet is so large that readings arrive in every instant of the second."""
        return len(self.state.machines) > FULL_HISTORY_MACHINES

    # -- writing: the bridge only --------------------------------------------------------------------------------------

    def connect(self, connection: Connection) -> None:
        """The connection changed."""
        if connection != self.connection:
            self.connection = connection
            self._dirty.add("connection")

    def measured(self, latency_ms: float) -> None:
        """How long the engine took to answer just now."""
        self.connection = replace(self.connection, latency_ms=latency_ms)
        self._dirty.add("latency")

    def take_snapshot(self, snapshot: api.Snapshot) -> None:
        """Everything anew: whatever was known before is replaced."""
        self.state = snapshot.state
        self._life += 1
        known, self.readings = self.readings, {}
        self.markets = dict(snapshot.markets)
        self._take_readings(snapshot.readings, known)
        self._dirty |= TOPICS

    def take_delta(self, delta: api.Delta) -> bool:
        """Fold the facts in and keep the readings; True when something happened that should be seen at once."""
        for fact in delta.facts:
            for kind, key in apply(self.state, fact):
                self._touch(kind, key)
            self._remember(fact)
        if delta.readings:
            self._take_readings(delta.readings, self.readings)
        for name, market in delta.markets.items():
            self.markets[name] = market
            self._touch("markets", name)
        return bool(delta.facts)

    def take_journal(self, facts: Iterable[Fact]) -> None:
        """The facts from before this console was opened; those already known are left out."""
        oldest = self.events[0].seq if self.events else None
        earlier = [fact for fact in facts if oldest is None or fact.seq < oldest]
        self.events = deque([*earlier, *self.events], maxlen=EVENTS_KEPT)
        self._dirty.add("events")

    def seen_events(self) -> None:
        """The operator looked at the events."""
        if self.unread:
            self.unread = 0
            self._dirty.add("events")

    def _remember(self, fact: Fact) -> None:
        if self.events and fact.seq <= self.events[-1].seq:
            return
        self.events.append(fact)
        if severity(fact) != "info":
            self.unread += 1
        self._dirty.add("events")

    def _take_readings(self, readings: dict[str, MachineReading], known: dict[str, MachineReading]) -> None:
        whole = not self.large
        for machine, reading in readings.items():
            before = known.get(machine)
            self.readings[machine] = reading
            if before is not None and before.at == reading.at:
                continue  # told again after a reconnection: the past has it
            loads = self.loads.get(machine)
            if loads is None:
                loads = self.loads[machine] = deque(maxlen=HISTORY_S)
            loads.append(_loads(reading))
            if whole or machine in self.watched:
                self.recent.setdefault(machine, deque(maxlen=HISTORY_S)).append(reading)
        self._dirty.add("readings")

    def _touch(self, kind: str, key: str) -> None:
        self._versions[kind, key] = self._versions.get((kind, key), 0) + 1
        self._dirty.add(kind)
        if kind == "machines":
            self._machines_changed += 1
        if kind == "machines" and self.state.machines.get(key) is None:
            for kept in (self.readings, self.recent, self.loads):
                kept.pop(key, None)


def _loads(reading: MachineReading) -> bytes:
    try:
        return bytes([int(gpu.utilization_pct) for gpu in reading.gpus])  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # a driver that reports nothing, or nonsense
        return bytes([percent_byte(gpu.utilization_pct) for gpu in reading.gpus])


def percent_byte(percent: float | None) -> int:
    """A percentage in a byte, `UNKNOWN` where there is none or it is no number."""
    return UNKNOWN if percent is None or not math.isfinite(percent) else max(0, min(100, int(percent)))
