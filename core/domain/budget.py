"""Money limits: checked before every create, shown always. Pure.

A limit judges what is committed, not what was billed: a machine that was only asked for counts at its full price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from core.domain.errors import IntentRefused
from core.domain.machines import Machine
from core.domain.units import SECONDS_PER_HOUR, month_of, month_start


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Hard limits. The defaults let a first machine be rented and nothing be ruined by a slip."""

    usd_per_hour: float = 5.0
    usd_per_month: float = 200.0
    machines: int = 4


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What is spent and committed at one instant; an estimate from list prices and times, labelled so on the screen."""

    burn_usd_per_hour: float
    committed_usd_per_hour: float
    month_usd: float
    machines: int


def spend(machines: Iterable[Machine], closed_by_month: Mapping[str, float], now: float) -> Spend:
    """Spending now. `closed_by_month`: USD of stretches that ended, of machines gone or not, by month (UTC)."""
    burn = committed = 0.0
    count = 0
    month, month_began = closed_by_month.get(month_of(now), 0.0), month_start(now)
    for machine in machines:
        if machine.state in ("destroyed", "failed"):
            continue
        count += 1
        burn += machine.burn_usd_per_hour
        committed += machine.usd_per_hour
        if machine.rate_since is not None:
            stretch_s = max(0.0, now - max(machine.rate_since, month_began))
            month += stretch_s / SECONDS_PER_HOUR * machine.burn_usd_per_hour
    return Spend(burn_usd_per_hour=burn, committed_usd_per_hour=committed, month_usd=month, machines=count)


def check(budget: Budget, spent: Spend, usd_per_hour: float, for_s: float | None = None) -> None:
    """Raises IntentRefused when one machine more at this price would break a limit.

    With `for_s` its whole planned cost must fit into the month; without, at least one hour of it.
    """
    if spent.machines + 1 > budget.machines:
        raise IntentRefused(
            f"{spent.machines} machines are rented or asked for; the limit is {budget.machines}.",
            hint="Retire one, or raise it: understudy budget set --machines N.",
        )
    if spent.committed_usd_per_hour + usd_per_hour > budget.usd_per_hour + 1e-9:
        raise IntentRefused(
            f"${usd_per_hour:.3f}/h more would make ${spent.committed_usd_per_hour + usd_per_hour:.2f}/h; "
            f"the limit is ${budget.usd_per_hour:.2f}/h.",
            hint="Take a cheaper offer, or raise it: understudy budget set --usd-per-hour X.",
        )
    planned = usd_per_hour * (for_s if for_s is not None else SECONDS_PER_HOUR) / SECONDS_PER_HOUR
    if spent.month_usd + planned > budget.usd_per_month + 1e-9:
        raise IntentRefused(
            f"${spent.month_usd:.2f} is spent this month and this plan costs ${planned:.2f}; "
            f"the limit is ${budget.usd_per_month:.2f}.",
            hint="Wait for the next month, or raise it: understudy budget set --usd-per-month X.",
        )


def by_month(start: float, end: float, usd_per_hour: float) -> dict[str, float]:
    """What a stretch at one rate cost, by the months (UTC) that it touches."""
    shares: dict[str, float] = {}
    while end > start:
        first = max(start, month_start(end - 1e-6))
        shares[month_of(first)] = shares.get(month_of(first), 0.0) + (end - first) / SECONDS_PER_HOUR * usd_per_hour
        end = first
    return shares
