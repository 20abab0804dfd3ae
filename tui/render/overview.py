"""The overview's tiles and its hint. One rule: a tile is two short lines, and the first says what matters most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from core.domain.accounts import ProviderStatus
from core.domain.budget import Budget, Spend
from core.domain.events import Fact
from core.domain.machines import GONE, Machine, cost_usd
from core.domain.readings import MachineReading, mean
from core.domain.workspaces import Workspace
from tui.render.cells import (
    UNICODE,
    Glyphs,
    Line,
    age,
    ago,
    dollars,
    duration,
    gib,
    limit,
    money,
    percent,
    plain,
    share,
    spark,
    stale,
    track,
)
from tui.render.events import counts
from tui.render.machines import (
    READING_PERIOD_S,
    badge,
    gpu_short,
    gpus_text,
    heat_role,
    host_short,
    hottest_c,
    memory_mib,
    place,
    uptime_s,
    watts,
)


def machines(fleet: Iterable[Machine], strangers: int, g: Glyphs = UNICODE) -> list[Line]:
    """How many run, boot, end; what is at risk."""
    groups = {"run": 0, "boot": 0, "stopped": 0, "ending": 0, "risk": 0}
    for machine in fleet:
        if machine.state in GONE:
            continue
        if machine.state == "lost" or (machine.state == "ready" and machine.agent == "lost"):
            groups["risk"] += 1
        elif machine.state == "ready":
            groups["run"] += 1
        elif machine.state == "stopped":
            groups["stopped"] += 1
        elif machine.state == "destroying":
            groups["ending"] += 1
        else:
            groups["boot"] += 1
    if not any(groups.values()) and not strangers:
        return [[("none rented", "muted")], [("nothing is billed", "muted")]]
    booting, ending = groups["boot"], groups["ending"]
    first: Line = [
        (f"{g.run} {groups['run']} run", "run"),
        (f"  {g.boot} {booting} boot", "boot" if booting else "muted"),
    ]
    if ending:
        first.append((f"  {g.ending} {ending} end", "warn"))
    second: Line = [(f"{g.risk} {groups['risk']} at risk", "risk")] if groups["risk"] else [("none at risk", "muted")]
    if groups["stopped"]:
        second.append((f"  {g.stby} {groups['stopped']} stop", "stby"))
    if strangers:
        second.append((f"  {g.stranger} {strangers} not ours", "dead"))
    return [first, second]


def gpu(
    readings: Sequence[MachineReading], load: Sequence[float | None], now: float, g: Glyphs = UNICODE
) -> list[Line]:
    """Mean utilisation with its last minute, memory, the hottest, the power. Only fresh readings count."""
    fresh = [r for r in readings if not stale(now - r.at, READING_PERIOD_S)]
    if not fresh:
        old = min((now - r.at for r in readings), default=None)
        said = "no reading yet" if old is None else f"last reading {ago(old, g)}"
        return [[(said, "muted" if old is None else "warn")], []]
    util = mean([u.utilization_pct for r in fresh for u in r.gpus])
    pairs = [memory_mib(r) for r in fresh]
    used = sum(u for u, _ in pairs if u is not None)
    total = sum(t for _, t in pairs if t is not None)
    heats = [h for r in fresh if (h := hottest_c(r)) is not None]
    hot = max(heats) if heats else None
    power = sum(w for r in fresh if (w := watts(r)) is not None)
    part = share(used, total)
    memory = g.dash if part is None else f"{part * 100:.0f}%"
    return [
        [
            ("util ", "muted"),
            (f"{percent(util, g)}%", "run"),
            (f" {spark(load, 8, g)}", "accent"),
            (f"  {power:.0f} W", "muted"),
        ],
        [
            ("mem ", "muted"),
            (f"{memory} of {gib(total, g)} GiB", ""),
            ("  max ", "muted"),
            (f"{percent(hot, g)}{g.degree or ' C'}", heat_role(hot)),
        ],
    ]


def money_lines(spent: Spend, budget: Budget, g: Glyphs = UNICODE) -> list[Line]:
    """What it costs now, and the month against its limit."""
    part = share(spent.month_usd, budget.usd_per_month) or 0.0
    role = "bad" if part >= 1 else "warn" if part >= 0.8 else ""
    return [
        [(f"${money(spent.burn_usd_per_hour, g)}/h", "money"), (f" of ${limit(budget.usd_per_hour, g)}", "muted")],
        [
            (f"month {dollars(spent.month_usd, g)}/{limit(budget.usd_per_month, g)} ", role or "muted"),
            (track(part, 5, g), role or "money"),
        ],
    ]


def chosen(machine: Machine, reading: MachineReading | None, now: float, width: int, g: Glyphs = UNICODE) -> list[Line]:
    """What the chosen workspace runs on, in `width` cells: the machine, its GPUs, its money, what is wrong with it."""
    mark = badge(machine, g)
    where = (
        f" {gpus_text(machine.gpu_count, machine.gpu, g)}, {machine.provider} {place(machine.region, machine.country)}"
    )
    lines: list[Line] = [[(f"{mark.glyph} {mark.word}", mark.role), (plain(where, g), "")]]
    if machine.reason and machine.state not in ("ready", "checking"):
        lines += [[(part, "bad")] for part in wrap(plain(machine.reason, g), max(20, width))]
    if reading is not None:
        old = stale(now - reading.at, READING_PERIOD_S)
        lines += [gpu_short(unit, width, old, g) for unit in reading.gpus]
        if reading.problem:
            lines += [[(part, "warn")] for part in wrap(plain(reading.problem, g), max(20, width))]
        lines.append(host_short(reading, old, g))
    up = age(uptime_s(machine, now), g)
    lines.append([(f"${dollars(cost_usd(machine, now), g)}", "money"), (f" so far, up {up}", "muted")])
    if machine.expires_at is not None and machine.bills:
        lines[-1].append((f", ends in {duration(machine.expires_at - now, g)}", "warn"))
    return lines


def events(facts: Sequence[Fact], now: float, g: Glyphs = UNICODE) -> list[Line]:
    """The last hour by severity."""
    hour = counts(fact for fact in facts if fact.at > now - 3600)
    bad, warn = hour["bad"], hour["warn"]
    first: Line = [
        (f"{g.dead} {bad} bad", "bad" if bad else "muted"),
        (f"  {g.risk} {warn} warn", "warn" if warn else "muted"),
    ]
    newest = f"last {ago(now - facts[-1].at, g)}" if facts else "nothing yet"
    return [first, [(f"{sum(hour.values())} in 1 h, {newest}" if facts else newest, "muted")]]


def provider_line(providers: Iterable[ProviderStatus], now: float, g: Glyphs = UNICODE) -> Line:
    """Providers that fail, and credit that is known; empty when there is nothing to say."""
    out: Line = []
    for status in sorted(providers, key=lambda p: p.name):
        if not status.ok:
            error = (status.error or "not answering").rstrip(".")
            text = f" {g.risk} {status.name}: {error}, for {age(now - status.since, g)}"
            out.append((plain(text, g), "warn"))
        elif status.credit_usd is not None:
            out.append((plain(f" {status.name} credit ${money(status.credit_usd, g)}", g), "muted"))
    return out


def hint(workspaces: Iterable[Workspace]) -> list[tuple[str, str]]:
    """What one could do next: (action id, in words). The keys are the registry's."""
    live = [w for w in workspaces if w.state not in ("retired", "failed")]
    if not live:
        return [("market", "find a GPU"), ("help", "help")]
    if any(w.state == "suspect" for w in live):
        return [("row-events", "what happened"), ("logs", "its log"), ("machines", "machines"), ("help", "help")]
    if all(w.state == "renting" for w in live):
        return [("open", "how the renting goes"), ("market", "market"), ("help", "help")]
    return [
        ("shell", "shell"),
        ("open", "open"),
        ("machines", "machines"),
        ("destroy", "give it back"),
        ("help", "help"),
    ]
