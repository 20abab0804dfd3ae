"""Offers as rows and one offer's detail. One rule: a price says what it includes and how old it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.domain.market import HostHistory, MarketStatus, Offer
from tui.render.cells import (
    UNICODE,
    Cell,
    Glyphs,
    Line,
    age,
    ago,
    duration,
    gib,
    money,
    number,
    plain,
    price,
    stale,
)
from tui.render.machines import gpus_text, place

MARKET_PERIOD_S = 60.0  # how often the engine lists a market; the age of an offer is judged by it
KEYS = (
    "gpu",
    "n",
    "price",
    "all",
    "kind",
    "from",
    "region",
    "rel",
    "host",
    "vram",
    "value",
    "cpu",
    "ram",
    "disk",
    "net",
    "age",
)


class Context(NamedTuple):
    """What an offer's row needs besides the offer."""

    now: float
    disk_gb: float
    hosts: dict[str, HostHistory]
    g: Glyphs = UNICODE


def host_of(offer: Offer, hosts: dict[str, HostHistory]) -> HostHistory | None:
    return hosts.get(f"{offer.provider}:{offer.host_id}")


def host_word(history: HostHistory | None) -> tuple[str, str]:
    """How this host behaved when we rented it: `2/3 ok`, `blocked`, or nothing."""
    if history is None or history.rented == 0:
        return ("blocked", "bad") if history and history.blocked else ("new", "muted")
    if history.blocked:
        return "blocked", "bad"
    return f"{history.ready}/{history.rented} ok", "good" if history.refused == 0 and history.ready else "warn"


def cells(offer: Offer, context: Context) -> list[Cell]:
    """In the order of `KEYS`; USD per hour: of one GPU without disk, then of the whole offer with its disk."""
    g, old = context.g, stale(context.now - offer.observed_at, MARKET_PERIOD_S)
    quiet = "muted" if old else ""
    word, role = host_word(host_of(offer, context.hosts))
    return [
        Cell(plain(offer.gpu, g)),
        Cell(str(offer.gpu_count)),
        Cell(price(offer.usd_per_gpu_hour, g), quiet or "money"),
        Cell(price(offer.all_in_usd_per_hour(context.disk_gb), g), quiet),
        Cell("spot" if offer.kind == "spot" else "on-dem", "warn" if offer.kind == "spot" else "muted"),
        Cell(plain(offer.provider, g), "muted"),
        Cell(plain(place(offer.region, offer.country), g), ""),
        Cell(_reliability(offer, g), "" if offer.verified else "warn"),
        Cell(word, role),
        Cell(gib(offer.vram_mib, g)),
        Cell(number(offer.value, 0, g)),
        Cell(number(offer.cpu_cores, 0, g)),
        Cell(gib(offer.ram_mib, g)),
        Cell(number(offer.disk_gb, 0, g)),
        Cell(number(offer.inet_down_mbps, 0, g)),
        Cell(age(context.now - offer.observed_at, g), "warn" if old else "muted"),
    ]


def _reliability(offer: Offer, g: Glyphs) -> str:
    share = g.dash if offer.reliability is None else f"{offer.reliability * 100:.1f}"
    return share if offer.verified else f"{share}?"


_SORTS: dict[str, Callable[[Offer, Context], object]] = {
    "gpu": lambda o, _: o.gpu.casefold(),
    "n": lambda o, _: o.gpu_count,
    "price": lambda o, _: o.usd_per_gpu_hour,
    "all": lambda o, c: o.all_in_usd_per_hour(c.disk_gb),
    "kind": lambda o, _: o.kind,
    "from": lambda o, _: o.provider,
    "region": lambda o, _: place(o.region, o.country).casefold(),
    "rel": lambda o, _: _none_low(o.reliability),
    "host": lambda o, c: _host_rank(host_of(o, c.hosts)),
    "vram": lambda o, _: o.vram_mib,
    "value": lambda o, _: _none_low(o.value),
    "cpu": lambda o, _: _none_low(o.cpu_cores),
    "ram": lambda o, _: _none_low(o.ram_mib),
    "disk": lambda o, _: _none_low(o.disk_gb),
    "net": lambda o, _: _none_low(o.inet_down_mbps),
    "age": lambda o, _: -o.observed_at,
}


def _none_low(value: float | None) -> float:
    return float("-inf") if value is None else value


def _host_rank(history: HostHistory | None) -> float:
    if history is None or history.rented == 0:
        return 0.5
    return -1.0 if history.blocked else history.ready / history.rented


def ordered(offers: list[Offer], column: str, descending: bool, context: Context) -> list[Offer]:
    """Sorted by a column; among equals the cheaper, then by id, so that rows never trade places without a reason."""
    tail = sorted(offers, key=lambda o: (o.usd_per_gpu_hour, o.id))
    if column == "price" and not descending:
        return tail
    by = _SORTS[column]
    return sorted(tail, key=lambda o: by(o, context), reverse=descending)  # type: ignore[arg-type, return-value]


def includes(offer: Offer, disk_gb: float, g: Glyphs = UNICODE) -> list[Line]:
    """What the price includes and what comes on top."""
    disk = offer.all_in_usd_per_hour(disk_gb) - offer.usd_per_hour
    month = money(offer.storage_usd_per_gb_month, g)
    lines: list[Line] = [
        _pair("GPU", f"${money(offer.usd_per_hour, g)}/h for {gpus_text(offer.gpu_count, offer.gpu, g)}, {offer.kind}"),
        _pair("disk", f"${money(disk, g)}/h for {disk_gb:.0f} GB (${month}/GB-month)"),
        _pair("all-in", f"${money(offer.usd_per_hour + disk, g)}/h", "money"),
        _pair("traffic", _traffic(offer, g)),
    ]
    if offer.kind == "spot":
        floor = offer.min_bid_usd_per_hour
        bid = "not said" if floor is None else f"${money(floor, g)}/h"
        lines.append(_pair("spot", f"floor {bid}; outbid, it pauses at once", "warn"))
    return [[(plain(text, g), role) for text, role in line] for line in lines]


def _traffic(offer: Offer, g: Glyphs) -> str:
    if offer.inet_down_usd_per_gb is None and offer.inet_up_usd_per_gb is None:
        return "on top; the provider does not say how much"
    return f"on top: ${money(offer.inet_down_usd_per_gb, g)}/GB in, ${money(offer.inet_up_usd_per_gb, g)}/GB out"


def _pair(name: str, value: str, role: str = "") -> Line:
    return [(f"{name:<9}", "muted"), (value, role)]


def detail(offer: Offer, context: Context) -> list[Line]:
    """The machine behind the offer, its price, and its host."""
    g = context.g
    verified = "verified" if offer.verified else "not verified"
    limit = "" if offer.max_duration_s is None else f", at most {duration(offer.max_duration_s, g)}"
    lines: list[Line] = [
        [(plain(gpus_text(offer.gpu_count, offer.gpu, g), g), "title"), (f"  {gib(offer.vram_mib, g)} GiB each", "")],
        [(plain(f"{offer.provider} {place(offer.region, offer.country)}, offer {offer.id}", g), "muted")],
        [],
        *includes(offer, context.disk_gb, g),
        _pair("seen", f"{ago(context.now - offer.observed_at, g)}{limit}"),
        [],
        _pair("machine", _body(offer, g)),
        _pair("network", f"{number(offer.inet_down_mbps, 0, g)} in, {number(offer.inet_up_mbps, 0, g)} out Mbit/s"),
        _pair("driver", f"{offer.driver_version or g.dash}, CUDA {number(offer.cuda_max, 1, g)}"),
        _pair("host", f"{offer.host_id}, {verified}, {percent_of(offer.reliability, g)}% reliable"),
        *host_lines(host_of(offer, context.hosts), context.now, g),
    ]
    return [[(plain(text, g), role) for text, role in line] for line in lines]


def _body(offer: Offer, g: Glyphs) -> str:
    cores, ram, disk = number(offer.cpu_cores, 0, g), gib(offer.ram_mib, g), number(offer.disk_gb, 0, g)
    return f"{cores} cores, {ram} GiB, disk {disk} GB"


def percent_of(part: float | None, g: Glyphs) -> str:
    return g.dash if part is None else f"{part * 100:.1f}"


def host_lines(history: HostHistory | None, now: float, g: Glyphs = UNICODE) -> list[Line]:
    """What we ourselves saw of the host."""
    if history is None or (history.rented == 0 and not history.blocked):
        return [_pair("", "never rented by us", "muted")]
    lines = [
        _pair(
            "",
            f"rented {history.rented} times: {history.ready} ready, {history.refused} given back",
            "good" if history.refused == 0 else "warn",
        )
    ]
    if history.boot_s is not None:
        lines.append(_pair("", f"took {duration(history.boot_s, g)} to be ready, on average"))
    if history.last_reason:
        when = "" if history.last_at is None else f" {ago(now - history.last_at, g)}"
        lines.append(_pair("", f"last trouble{when}: {history.last_reason}", "warn"))
    if history.blocked:
        lines.append(_pair("", f"blocked: {history.blocked_reason or 'by hand'}", "bad"))
    return lines


def status_line(markets: dict[str, MarketStatus], now: float, g: Glyphs = UNICODE) -> Line:
    """Per provider: how many offers, how old, or what is wrong."""
    out: Line = []
    for status in sorted(markets.values(), key=lambda m: m.provider):
        out.append((f"  {plain(status.provider, g)} " if out else f"{plain(status.provider, g)} ", "muted"))
        since = None if status.at is None else now - status.at
        if not status.ok:
            seen = "never seen" if since is None else f"last seen {ago(since, g)}"
            out.append((plain(f"{g.risk} {status.error or 'not answering'}, {seen}", g), "warn"))
        elif stale(since, MARKET_PERIOD_S):
            out.append((f"{g.risk} {status.count:,} offers, {age(since, g)} old", "warn"))
        else:
            out.append((f"{status.count:,} offers, {age(since, g)} old", ""))
        if status.rows_skipped:
            out.append((f", {status.rows_skipped} unreadable", "warn"))
    return out


def as_text(offer: Offer, disk_gb: float) -> str:
    return (
        f"{offer.provider} {offer.id} {offer.gpu_count}x {offer.gpu} {offer.kind} "
        f"${money(offer.usd_per_gpu_hour)}/GPU-h ${money(offer.all_in_usd_per_hour(disk_gb))}/h all-in "
        f"{place(offer.region, offer.country)}"
    )
