"""Units and ids: the words in which everything else speaks. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NewType

MachineId = NewType("MachineId", str)
OperationId = NewType("OperationId", str)
OfferId = NewType("OfferId", str)
WorkspaceName = NewType("WorkspaceName", str)

Kind = Literal["on-demand", "spot"]

MIB = 1024 * 1024
HOURS_PER_MONTH = 730.0  # 365 * 24 / 12, the month that cloud price lists use
SECONDS_PER_HOUR = 3600.0


def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 UTC with milliseconds, the form of every time in JSON output."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def month_of(at: float) -> str:
    """The calendar month (UTC) an instant falls in, as `2026-11`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_start(at: float) -> float:
    """Epoch seconds of the first instant (UTC) of the month that `at` falls in."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def clean(text: str, limit: int = 400) -> str:
    """Text from outside, made harmless: control, escape and bidirectional characters become `·`, and it is cut.

    Whatever a host or a provider said goes through here before it is stored or shown: it must never drive a terminal.
    """
    kept = "".join(c if c.isprintable() else " " if c in "\t\r\n" else "·" for c in text[: limit * 2])
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
