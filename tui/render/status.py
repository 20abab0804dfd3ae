"""The top bar as spans. One rule: what costs money or is at risk is the last thing to go when there is little room."""

from __future__ import annotations

from typing import Protocol

from core.domain.budget import Budget, Spend
from tui.render.cells import UNICODE, Glyphs, Line, dollars, limit, money


class Standing(Protocol):
    """How the console stands with its engine."""

    @property
    def state(self) -> str: ...

    @property
    def latency_ms(self) -> float | None: ...


def engine(standing: Standing, g: Glyphs = UNICODE, *, short: bool = False) -> Line:
    """`● engine 2 ms`, or in which way it is not there."""
    name = "" if short else "engine "
    match standing.state:
        case "live":
            latency = "" if standing.latency_ms is None else f"{standing.latency_ms:.0f} ms"
            return [(f"{g.run} ", "good"), (f"{name}{latency}".strip() or "live", "")]
        case "connecting":
            return [(f"{g.boot} ", "boot"), (f"{name}connecting", "")]
        case "stale":
            return [(f"{g.risk} {name}stale", "warn bold")]
        case _:
            return [(f"{g.dead} {name}gone", "bad bold")]


def burn(spent: Spend, g: Glyphs = UNICODE) -> Line:
    """What is billed now."""
    return [(f"${money(spent.burn_usd_per_hour, g)}", "money bold"), ("/h", "muted")]


def month(spent: Spend, budget: Budget, g: Glyphs = UNICODE) -> Line:
    """What this month cost so far, of what it may cost."""
    share = spent.month_usd / budget.usd_per_month if budget.usd_per_month > 0 else 1.0
    role = "bad bold" if share >= 1 else "warn" if share >= 0.8 else ""
    return [
        ("month ", "muted"),
        (f"${dollars(spent.month_usd, g)}", role),
        (f" of ${limit(budget.usd_per_month, g)}", "muted"),
    ]


def at_risk(count: int, g: Glyphs = UNICODE) -> Line:
    """How many things could be lost."""
    return [(f"{g.risk} {count} at risk", "risk bold")] if count else []


def unread(count: int) -> Line:
    """Events since the operator last looked."""
    return [("! ", "key bold"), (f"{count} new", "")] if count else []
