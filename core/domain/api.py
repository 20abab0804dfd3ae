"""What crosses the engine's socket: requests, replies and the event stream. Types only.

One rule: fields are only added within a protocol version; unknown fields and unknown facts are ignored by a reader.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from core.domain.events import Fact
from core.domain.market import MarketStatus, Offer
from core.domain.readings import MachineReading
from core.domain.state import State
from core.domain.units import Kind
from core.domain.workspaces import UpSpec

PROTOCOL = 1
PROTOCOL_OLDEST = 1


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", tag_field="t"):
    """The first line of every stream and the answer of GET /hello. `started_at` tells one engine life from the next."""

    protocol: int
    protocol_oldest: int
    version: str
    pid: int
    started_at: float
    home: str
    lab: bool
    owner: str
    sleeps: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot", tag_field="t"):
    """The whole state and the latest readings; every Delta after it continues from `state.seq`."""

    state: State
    readings: dict[str, MachineReading] = {}
    markets: dict[str, MarketStatus] = {}


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", tag_field="t"):
    """Facts in order, none missing; readings by machine id, latest wins. An empty one is the heartbeat (2 s)."""

    facts: list[Fact] = []
    readings: dict[str, MachineReading] = {}
    markets: dict[str, MarketStatus] = {}


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="t"):
    """The engine ends this stream: `closing` it stops, `behind` the reader fell too far back and must come again."""

    reason: Literal["closing", "behind"]


Update = Hello | Snapshot | Delta | End


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request that changes something. `operation`: the client's own id; the same id acts once."""

    operation: str


class UpIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    spec: UpSpec
    dry_run: bool = False


class DownIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`name` None: every workspace and every machine of ours."""

    name: str | None = None


class MachineIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start, stop or destroy one machine by our id; adopt one by `provider:provider_id`."""

    machine: str
    verb: Literal["start", "stop", "destroy", "adopt"]
    workspace: str | None = None


class HostIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    verb: Literal["block", "unblock"]
    reason: str = ""


class BudgetIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`None` leaves a limit as it is."""

    usd_per_hour: float | None = None
    usd_per_month: float | None = None
    machines: int | None = None


class SecretIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says that a secret was set or removed (its value never crosses the socket); the engine reads it anew."""

    name: str
    verb: Literal["set", "removed"]


class FaultIntent(Intent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    machine: str | None = None
    provider: str | None = None
    zone: str | None = None
    for_s: float | None = None
    power_off: bool = False
    options: dict[str, str | float] = {}


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The intent is on disk and goes on by itself; `workspace` and `machines` say what it concerns."""

    operation: str
    workspace: str | None = None
    machines: list[str] = []


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` would do now: the offers in the order in which they would be tried, and the money."""

    offers: list[Offer]
    all_in_usd_per_hour: float | None
    usd_per_day: float | None
    usd_for_duration: float | None
    budget_left_usd_per_hour: float
    budget_left_usd_month: float
    machines_left: int
    refused: str | None
    hint: str = ""
    boot_s_expected: float | None = None


class OffersReply(msgspec.Struct, frozen=True, kw_only=True):
    offers: list[Offer]
    providers: list[MarketStatus]


class OfferFilter(msgspec.Struct, frozen=True, kw_only=True):
    """GET /offers: None is any; `limit` 0 is all."""

    gpu: str | None = None
    count: int | None = None
    kind: Kind | None = None
    provider: str | None = None
    region: str | None = None
    max_usd_per_hour: float | None = None
    min_vram_gb: float | None = None
    sort: Literal["price", "value", "reliability"] = "price"
    limit: int = 0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How OpenSSH reaches a workspace's machine: explicit in everything, nothing taken from the user's own config."""

    machine: str
    host: str
    port: int
    user: str
    identity_file: str
    known_hosts: str
    alias: str
    workspace_dir: str
    warning: str = ""  # why it may not answer now


class MachineLog(msgspec.Struct, frozen=True, kw_only=True):
    """The tail of the newest log in the workspace, made harmless."""

    path: str | None
    lines: list[str]
    at: float


class JournalPage(msgspec.Struct, frozen=True, kw_only=True):
    facts: list[Fact]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    ok: bool
    detail: str
    hint: str = ""


class DoctorReply(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    checks: list[Check]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every refused request: the error's class, its sentence, what to do."""

    kind: str
    message: str
    hint: str = ""
    extra: dict[str, Any] = {}
