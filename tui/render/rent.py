"""The rent sheet: a plan as money and consequences. One rule: nothing is rented before all of it was on the screen."""

from __future__ import annotations

from typing import NamedTuple

from core.domain.api import Plan
from core.domain.market import Offer
from tui.render.cells import UNICODE, Glyphs, Line, day, duration, money, plain


class Wish(NamedTuple):
    """What the rent sheet asks for."""

    name: str
    offer: Offer
    for_s: float | None
    disk_gb: float


def plan_lines(wish: Wish, plan: Plan, now: float, g: Glyphs = UNICODE) -> list[Line]:
    """The money of a plan, what is left after it, and what happens when it does not come up."""
    hour, whole = plan.all_in_usd_per_hour, plan.usd_for_duration
    lines: list[Line] = [
        _money("per hour", hour, f"disk of {wish.disk_gb:.0f} GB included, traffic not", g),
        _money("per day", plan.usd_per_day, "", g),
    ]
    if wish.for_s is not None:
        until = day(now + wish.for_s, g)
        lines.append(_money("in all", whole, f"until {until}, then it ends by itself", g))
    else:
        lines.append([(f"{'in all':<12}", "muted"), ("no end set: it runs until you destroy it", "warn")])
    hour_left, month_left = money(plan.budget_left_usd_per_hour, g), money(plan.budget_left_usd_month, g)
    left = f"${hour_left}/h and ${month_left} this month, {plan.machines_left} machines"
    lines.append([(f"{'budget left':<12}", "muted"), (left + " before this one", "")])
    others = len(plan.offers) - 1
    most = max((o.all_in_usd_per_hour(wish.disk_gb) for o in plan.offers), default=0.0)
    then = f"then the next of {others} like it, at most ${money(most, g)}/h" if others > 0 else "nothing else is tried"
    lines.append([(f"{'if it fails':<12}", "muted"), (f"given back; {then}", "")])
    if plan.boot_s_expected is not None:
        lines.append([(f"{'ready in':<12}", "muted"), (f"about {duration(plan.boot_s_expected, g)}, as before", "")])
    return [[(plain(text, g), role) for text, role in line] for line in lines]


def _money(name: str, usd: float | None, note: str, g: Glyphs) -> Line:
    return [(f"{name:<12}", "muted"), (f"${money(usd, g):<9}", "money"), (note, "muted")]
