"""What each noun offers to the filter. One rule: a field's unit is that of the column it stands for."""

from __future__ import annotations

from core.domain.events import Fact, sentence, severity
from core.domain.machines import Machine, Stranger
from core.domain.market import HostHistory, Offer
from core.domain.readings import MachineReading
from tui.filters import Subject, country_of
from tui.render import machines as machine_rows
from tui.render import workspaces as workspace_rows
from tui.render.cells import stale
from tui.render.market import MARKET_PERIOD_S

IDLE_PCT = 5.0  # below this a GPU does nothing that one pays for


def offer(offer: Offer, history: HostHistory | None, disk_gb: float, now: float) -> Subject:
    """Prices in USD per hour, memory in GiB, network in Mbit/s, age in seconds, reliability as a share of 1."""
    flags = {offer.kind, "known" if history is not None and history.rented else "new"}
    flags |= {"verified"} if offer.verified else set()
    flags |= {"blocked"} if history is not None and history.blocked else set()
    flags |= {"old"} if stale(now - offer.observed_at, MARKET_PERIOD_S) else set()
    texts = {
        "gpu": offer.gpu,
        "provider": offer.provider,
        "kind": offer.kind,
        "region": offer.region,
        "country": offer.country,
        "host": offer.host_id,
        "driver": offer.driver_version or "",
        "id": offer.id,
    }
    numbers = {
        "$": offer.usd_per_gpu_hour,
        "all": offer.all_in_usd_per_hour(disk_gb),
        "n": float(offer.gpu_count),
        "vram": offer.vram_mib / 1024,
        "cpu": offer.cpu_cores,
        "ram": None if offer.ram_mib is None else offer.ram_mib / 1024,
        "disk": offer.disk_gb,
        "rel": offer.reliability,
        "net": offer.inet_down_mbps,
        "up": offer.inet_up_mbps,
        "cuda": offer.cuda_max,
        "age": now - offer.observed_at,
        "value": offer.value,
        "ports": None if offer.direct_ports is None else float(offer.direct_ports),
    }
    hay = " ".join((offer.gpu, offer.provider, offer.kind, offer.region, offer.country, offer.host_id, offer.id))
    return Subject(hay.casefold(), texts, numbers, frozenset(flags), country_of(offer.region, offer.country))


def machine(machine: Machine, reading: MachineReading | None, now: float) -> Subject:
    util = machine_rows.utilization(reading)
    old = machine.state == "ready" and (reading is None or stale(now - reading.at, machine_rows.READING_PERIOD_S))
    flags: set[str] = {machine.kind}
    flags |= {"risk"} if machine.state == "lost" or machine.agent == "lost" else set()
    flags |= {"lab"} if machine.simulated else set()
    flags |= {"stale"} if old else set()
    flags |= {"idle"} if machine.state == "ready" and util is not None and util < IDLE_PCT else set()
    word = machine_rows.badge(machine).word
    texts = {
        "gpu": machine.gpu,
        "provider": machine.provider,
        "kind": machine.kind,
        "region": machine.region,
        "country": machine.country,
        "host": machine.host_id,
        "state": f"{machine.state} {word}",
        "workspace": machine.workspace or "",
        "id": machine.id,
    }
    numbers = {
        "$": machine.burn_usd_per_hour,
        "n": float(machine.gpu_count),
        "vram": machine.vram_mib / 1024,
        "util": util,
        "temp": machine_rows.hottest_c(reading),
        "watt": machine_rows.watts(reading),
        "up": machine_rows.uptime_s(machine, now),
    }
    hay = " ".join((*texts.values(), machine.reason or "", machine.provider_id or ""))
    return Subject(hay.casefold(), texts, numbers, frozenset(flags), country_of(machine.region, machine.country))


def stranger(stranger: Stranger) -> Subject:
    texts = {"gpu": stranger.gpu, "provider": stranger.provider, "id": stranger.provider_id, "state": "stranger"}
    numbers = {"$": stranger.usd_per_hour, "n": float(stranger.gpu_count)}
    hay = " ".join((*texts.values(), stranger.label))
    return Subject(hay.casefold(), texts, numbers, frozenset({"stranger"}))


def workspace(row: workspace_rows.Row, now: float) -> Subject:
    workspace, machine, reading = row.workspace, row.machine, row.reading
    progress = reading.progress if reading else None
    old = workspace.state == "running" and (reading is None or stale(now - reading.at, machine_rows.READING_PERIOD_S))
    flags = {"risk"} if workspace.state == "suspect" else set()
    flags |= {"stale"} if old else set()
    texts = {
        "state": f"{workspace.state} {workspace_rows.badge(workspace).word}",
        "gpu": machine.gpu if machine else workspace.spec.gpu or "",
        "machine": machine.id if machine else "",
        "id": workspace.name,
    }
    numbers = {
        "$": machine.burn_usd_per_hour if machine else None,
        "n": float(machine.gpu_count) if machine else None,
        "util": machine_rows.utilization(reading),
        "step": None if progress is None else float(progress.step),
        "loss": None if progress is None else progress.loss,
    }
    return Subject(" ".join((*texts.values(), workspace.reason or "")).casefold(), texts, numbers, frozenset(flags))


def event(fact: Fact, now: float) -> Subject:
    texts = {
        "kind": fact.kind,
        "workspace": fact.workspace or "",
        "machine": fact.machine or "",
        "provider": str(fact.detail.get("provider") or ""),
        "actor": fact.actor,
        "operation": fact.operation or "",
    }
    hay = f"{sentence(fact)} {fact.kind} {fact.workspace or ''} {fact.machine or ''} {fact.actor}"
    numbers = {"age": now - fact.at, "seq": float(fact.seq)}
    return Subject(hay.casefold(), texts, numbers, frozenset({severity(fact)}))
