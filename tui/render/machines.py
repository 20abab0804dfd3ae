"""Machines as rows and as one machine's detail. One rule: what a machine costs is shown until it is proven gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.domain.machines import BILLING, Machine, Stranger, cost_usd
from core.domain.readings import GpuReading, MachineReading, ProcessReading, mean
from tui.render.cells import (
    UNICODE,
    Cell,
    Glyphs,
    Line,
    age,
    ago,
    bar,
    duration,
    gib,
    money,
    percent,
    plain,
    price,
    rate,
    share,
    spark,
    stale,
)

READING_PERIOD_S = 1.0  # the agent's report rate
HOT_C, TOO_HOT_C = 84.0, 88.0  # NVIDIA data-centre boards slow down from about 87-90 °C
NAME, STATE, FROM, ZONE, GPUS, UTIL, SPARK, MEM, TEMP, WATT, PRICE, UP, JOB = range(13)
BAR_WIDTH, SPARK_WIDTH = 8, 10


class Badge(NamedTuple):
    glyph: str
    word: str
    role: str


def badge(machine: Machine, g: Glyphs = UNICODE) -> Badge:
    """Glyph and word of a machine's state."""
    if machine.state == "ready":
        return Badge(g.risk, "MUTE", "risk") if machine.agent == "lost" else Badge(g.run, "run", "run")
    return {
        "asked": Badge(g.boot, "asked", "boot"),
        "booting": Badge(g.boot, "boot", "boot"),
        "checking": Badge(g.boot, "check", "boot"),
        "lost": Badge(g.risk, "LOST", "risk"),
        "stopped": Badge(g.stby, "stopped", "stby"),
        "destroying": Badge(g.ending, "DESTROYING", "warn"),
        "destroyed": Badge(g.dead, "gone", "dead"),
        "failed": Badge(g.dead, "failed", "dead"),
    }[machine.state]


RANK = {"lost": 0, "destroying": 2, "checking": 3, "booting": 3, "asked": 3, "ready": 4, "stopped": 5}


def rank(machine: Machine) -> int:
    """Risk first, then what changes, then what runs, then what is over."""
    if machine.state == "ready" and machine.agent == "lost":
        return 1
    return RANK.get(machine.state, 9)


def utilization(reading: MachineReading | None) -> float | None:
    """Mean over the GPUs that say it, percent."""
    return None if reading is None else mean([gpu.utilization_pct for gpu in reading.gpus])


def memory_mib(reading: MachineReading | None) -> tuple[float | None, float | None]:
    """(used, total) over all GPUs."""
    if reading is None:
        return None, None
    used = [gpu.memory_used_mib for gpu in reading.gpus if gpu.memory_used_mib is not None]
    total = [gpu.memory_total_mib for gpu in reading.gpus if gpu.memory_total_mib is not None]
    return (sum(used) if used else None), (sum(total) if total else None)


def hottest_c(reading: MachineReading | None) -> float | None:
    known = [gpu.temperature_c for gpu in reading.gpus if gpu.temperature_c is not None] if reading else []
    return max(known) if known else None


def watts(reading: MachineReading | None) -> float | None:
    known = [gpu.power_w for gpu in reading.gpus if gpu.power_w is not None] if reading else []
    return sum(known) if known else None


def heat_role(celsius: float | None) -> str:
    if celsius is None or celsius < HOT_C:
        return ""
    return "warn" if celsius < TOO_HOT_C else "bad"


def gpus_text(count: int, gpu: str, g: Glyphs = UNICODE) -> str:
    return plain(f"{count}{g.times} {gpu}" if count != 1 else gpu, g)


def place(region: str, country: str) -> str:
    """Where it is; the free text that ends in a country's code is kept, an empty one says the country."""
    return region.strip(" ,") or country or ""


def cells(
    machine: Machine, reading: MachineReading | None, load: Sequence[float | None], now: float, g: Glyphs = UNICODE
) -> list[Cell]:
    """One row of the fleet, in the order NAME … JOB. `load`: utilisation of the last minute, percent, newest last."""
    mark = badge(machine, g)
    alive = machine.state in ("ready", "checking", "lost")
    seen = reading if alive else None
    old = seen is None or stale(now - seen.at, READING_PERIOD_S)
    quiet = "muted" if old else ""
    used, total = memory_mib(seen)
    util, heat = utilization(seen), hottest_c(seen)
    burn = machine.burn_usd_per_hour if machine.bills else (machine.usd_per_hour if machine.state == "asked" else None)
    return [
        Cell(f"{mark.glyph} {plain(machine.id, g)}", mark.role),
        Cell(mark.word, mark.role),
        Cell(plain(machine.provider, g), "muted"),
        Cell(plain(place(machine.region, machine.country), g), "muted"),
        Cell(gpus_text(machine.gpu_count, machine.gpu, g)),
        Cell(bar(share(util, 100), BAR_WIDTH, g) + f"{percent(util, g):>4}", quiet or "run"),
        Cell(spark(load if alive else (), SPARK_WIDTH, g), "muted" if old else "accent"),
        Cell(f"{gib(used, g)}/{gib(total, g)}" if total else g.dash, quiet),
        Cell(percent(heat, g), quiet or heat_role(heat)),
        Cell(percent(watts(seen), g), quiet),
        Cell(price(burn, g), "money" if machine.bills else "muted"),
        Cell(age(uptime_s(machine, now), g), "muted"),
        Cell(*job(machine, seen, now, g)),
    ]


def uptime_s(machine: Machine, now: float) -> float | None:
    """Since the provider accepted it, which is since it bills; None before and after."""
    return None if machine.rented_at is None or machine.state not in BILLING else now - machine.rented_at


def job(machine: Machine, reading: MachineReading | None, now: float, g: Glyphs = UNICODE) -> tuple[str, str]:
    """What the row has to say: what it runs, or why it does not."""
    since = duration(now - machine.state_since, g)
    who = machine.workspace or ""
    match machine.state:
        case "destroying":
            proof = "waiting for proof" if machine.destroy_accepted_at else "not accepted yet"
            return plain(f"${money(cost_usd(machine, now))} so far, {since}, {proof}", g), "warn"
        case "asked" | "booting" | "checking":
            said = f", {machine.provider_state}" if machine.provider_state else ""
            return plain(f"{who} {since}{said}".strip(), g), "boot"
        case "lost" | "failed":
            return plain(f"{who}: {machine.reason or 'no reason known'}".lstrip(": "), g), "bad"
        case "stopped":
            return plain(f"{who} disk bills ${money(machine.storage_usd_per_hour)}/h".strip(), g), "muted"
        case "destroyed":
            return plain(f"{who} cost ${money(cost_usd(machine, now))}", g), "muted"
    return _running(who, reading, now, g)


def _running(who: str, reading: MachineReading | None, now: float, g: Glyphs) -> tuple[str, str]:
    if reading is None:
        return plain(f"{who} no reading yet".strip(), g), "muted"
    if stale(now - reading.at, READING_PERIOD_S):
        return plain(f"{who} last reading {ago(now - reading.at, g)}".strip(), g), "warn"
    if reading.problem:
        return plain(f"{who} {reading.problem}".strip(), g), "warn"
    progress = reading.progress
    if progress is None:
        return plain(who or "no workspace", g), "" if who else "muted"
    loss = "" if progress.loss is None else f" loss {progress.loss:.4g}"
    return plain(f"{who} step {progress.step:,}{loss}", g), ""


def stranger_cells(stranger: Stranger, g: Glyphs = UNICODE) -> list[Cell]:
    """A machine of the account that is not ours: dimmed, never touched, adopted on request."""
    return [
        Cell(f"{g.stranger} {plain(stranger.provider_id, g)}", "dead"),
        Cell("stranger", "dead"),
        Cell(plain(stranger.provider, g), "dead"),
        Cell("", "dead"),
        Cell(gpus_text(stranger.gpu_count, stranger.gpu, g), "dead"),
        Cell("", "dead"),
        Cell("", "dead"),
        Cell(g.dash, "dead"),
        Cell(g.dash, "dead"),
        Cell(g.dash, "dead"),
        Cell(price(stranger.usd_per_hour, g), "dead"),
        Cell(g.dash, "dead"),
        Cell(plain(f"not ours{f', labelled {stranger.label}' if stranger.label else ''}", g), "dead"),
    ]


def gpu_line(gpu: GpuReading, width: int, old: bool, g: Glyphs = UNICODE) -> Line:
    """One GPU: two bars, then its figures. Numbers keep their place at every value."""
    quiet = "muted" if old else ""
    room = max(4, min(30, (width - 47) // 2))
    memory = share(gpu.memory_used_mib, gpu.memory_total_mib)
    limit = "" if gpu.power_limit_w is None else f"/{gpu.power_limit_w:.0f}"
    return [
        (f"{gpu.index:>2} ", "key"),
        (bar(share(gpu.utilization_pct, 100), room, g), quiet or "run"),
        (f"{percent(gpu.utilization_pct, g):>4}% ", quiet),
        (bar(memory, room, g), quiet or "accent"),
        (f"{gib(gpu.memory_used_mib, g):>4}/{gib(gpu.memory_total_mib, g):<3}GiB ", quiet),
        (f"{percent(gpu.temperature_c, g):>3}{g.degree or ' C'} ", quiet or heat_role(gpu.temperature_c)),
        (f"{percent(gpu.power_w, g):>5}{limit:<4} W ", quiet),
        (f"{percent(gpu.sm_clock_mhz, g):>5} MHz", "muted"),
    ]


def gpu_short(gpu: GpuReading, width: int, old: bool, g: Glyphs = UNICODE) -> Line:
    """One GPU in a narrow pane: a bar, then its figures."""
    quiet = "muted" if old else ""
    memory = f"{gib(gpu.memory_used_mib, g):>4}/{gib(gpu.memory_total_mib, g):<3}GiB"
    return [
        (f"{gpu.index} ", "key"),
        (bar(share(gpu.utilization_pct, 100), max(4, min(24, width - 32)), g), quiet or "run"),
        (f"{percent(gpu.utilization_pct, g):>4}% ", quiet),
        (memory, quiet),
        (f" {percent(gpu.temperature_c, g):>3}{g.degree or 'C'}", quiet or heat_role(gpu.temperature_c)),
        (f" {percent(gpu.power_w, g):>4} W", quiet or "muted"),
    ]


def host_short(reading: MachineReading, old: bool, g: Glyphs = UNICODE) -> Line:
    """CPU, memory and disk of the machine itself in a narrow pane."""
    quiet = "muted" if old else ""
    disk = f"{gib(reading.disk_used_mib, g)}/{gib(reading.disk_total_mib, g)} GiB"
    return [
        ("cpu ", "muted"),
        (f"{percent(reading.cpu_pct, g)}%", quiet),
        ("  mem ", "muted"),
        (f"{gib(reading.memory_used_mib, g)}/{gib(reading.memory_total_mib, g)}", quiet),
        ("  disk ", "muted"),
        (disk, quiet),
    ]


def process_cells(process: ProcessReading, g: Glyphs = UNICODE) -> list[Cell]:
    """PID, GPU, GPU MEM GiB, CPU %, MEM GiB, NAME."""
    on = g.dash if process.gpu_index is None else str(process.gpu_index)
    vram = g.dash if process.gpu_memory_mib is None else f"{process.gpu_memory_mib / 1024:.1f}"
    resident = g.dash if process.memory_mib is None else f"{process.memory_mib / 1024:.1f}"
    return [
        Cell(str(process.pid), "muted"),
        Cell(on),
        Cell(vram, "accent" if process.gpu_memory_mib else "muted"),
        Cell(percent(process.cpu_pct, g)),
        Cell(resident),
        Cell(plain(process.name, g)),
    ]


def host_line(reading: MachineReading, g: Glyphs = UNICODE) -> Line:
    """CPU, memory, disk and network of the machine itself."""
    cores = "" if reading.cores is None else f" of {reading.cores}"
    return [
        (" cpu ", "muted"),
        (f"{percent(reading.cpu_pct, g)}%{cores}", ""),
        ("  mem ", "muted"),
        (f"{gib(reading.memory_used_mib, g)}/{gib(reading.memory_total_mib, g)}", ""),
        ("  disk ", "muted"),
        (f"{gib(reading.disk_used_mib, g)}/{gib(reading.disk_total_mib, g)} GiB", ""),
        ("  in ", "muted"),
        (rate(reading.net_rx_bps, g), ""),
        ("  out ", "muted"),
        (rate(reading.net_tx_bps, g), ""),
    ]


def headline(machine: Machine, now: float, g: Glyphs = UNICODE) -> Line:
    """The first line of one machine's detail."""
    mark = badge(machine, g)
    simulated = " (lab)" if machine.simulated else ""
    line: Line = [
        (f"{mark.glyph} {mark.word} ", mark.role),
        (plain(f"{machine.id}{simulated}", g), "title"),
        (f"  {gpus_text(machine.gpu_count, machine.gpu, g)}", ""),
        (plain(f"  {machine.provider} {place(machine.region, machine.country)}", g), "muted"),
        (f"  ${money(machine.burn_usd_per_hour, g)}/h", "money"),
        (f"  ${money(cost_usd(machine, now), g)} so far", "muted"),
    ]
    if machine.expires_at is not None and machine.state in BILLING:
        line.append((f"  ends in {duration(machine.expires_at - now, g)}", "warn"))
    return line


def facts_lines(machine: Machine, now: float, g: Glyphs = UNICODE) -> list[Line]:
    """What is known of the machine itself, name and value, for the detail's side."""
    booted = None if machine.ready_at is None or machine.rented_at is None else machine.ready_at - machine.rented_at
    since = "" if machine.agent_since is None else f" for {age(now - machine.agent_since, g)}"
    driver = f", driver {machine.driver_version}" if machine.driver_version else ""
    took = "" if booted is None else f", was ready after {duration(booted, g)}"
    pairs = [
        ("workspace", machine.workspace or g.dash),
        ("contract", f"{machine.provider} {machine.provider_id or g.dash}, {machine.kind}"),
        ("state", f"{machine.state}{took}"),
        ("provider", f"says {machine.provider_state}" if machine.provider_state else g.dash),
        ("host", f"{machine.host_id or g.dash}{driver}"),
        ("address", f"{machine.user}@{machine.address}:{machine.port}" if machine.address else g.dash),
        ("disk", f"{machine.disk_gb:.0f} GB for ${money(machine.storage_usd_per_hour)}/h of the price"),
        ("agent", f"{machine.agent}{since}" if machine.agent else g.dash),
    ]
    if machine.reason:
        pairs.append(("reason", machine.reason))
    return [[(f"{name:<10}", "muted"), (plain(value, g), "")] for name, value in pairs]


def as_text(machine: Machine, now: float) -> str:
    """One line for `y`."""
    return (
        f"{machine.id} {badge(machine).word} {machine.gpu_count}x {machine.gpu} {machine.provider} "
        f"{place(machine.region, machine.country)} ${money(machine.burn_usd_per_hour)}/h "
        f"up {age(uptime_s(machine, now))}"
    )
