"""A day at the console, made by folding real facts. One rule: nothing is put into a State but by a Fact.

Seeded and on a clock of its own: the same scenario is the same to the byte.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import msgspec

from core.domain import api
from core.domain.events import Fact
from core.domain.machines import Machine, Stranger
from core.domain.market import MarketStatus, Offer, PriceHistory, PricePoint, class_of
from core.domain.readings import GpuReading, MachineReading, ProcessReading, Progress, TelemetryPoint, point
from core.domain.state import State, apply
from core.domain.workspaces import UpSpec

START = 1_795_348_800.0  # 2026-11-22 12:00:00 UTC
HOSTILE = "evil\x1b]52;c;aGk=\x07\u202ename"
PLACES = (
    ("Texas, US", "US"),
    ("Norway, NO", "NO"),
    ("Quebec, CA", "CA"),
    ("Germany, DE", "DE"),
    ("Tokyo, JP", "JP"),
    ("Czechia, CZ", "CZ"),
    ("Oregon, US", "US"),
    ("Iceland, IS", "IS"),
    ("Taiwan, TW", "TW"),
    ("Sweden, SE", "SE"),
)
# model, VRAM MiB, USD per GPU-hour around which the offers lie (market prices of 2026-11)
MODELS = (
    ("RTX 4090", 24_564, 0.35),
    ("RTX 3090", 24_576, 0.16),
    ("RTX 5090", 32_607, 0.48),
    ("A100 80GB", 81_920, 1.05),
    ("H100 SXM", 81_559, 2.05),
    ("L40S", 46_068, 0.62),
    ("RTX A6000", 49_140, 0.41),
    ("T4", 15_360, 0.11),
    ("H200", 143_771, 2.6),
    ("B200", 183_359, 3.9),
    ("RTX PRO 6000 WS", 97_887, 1.05),
    ("V100 32GB", 32_768, 0.22),
)


class Scenario:
    """What an engine would know. `now` moves only when told to."""

    def __init__(self, seed: int = 7, *, lab: bool = True) -> None:
        self.random = random.Random(seed)  # noqa: S311 - seeded, not secret
        self.now = START
        self.lab = lab
        self.state = State()
        self.facts: list[Fact] = []
        self.readings: dict[str, MachineReading] = {}
        self.markets: dict[str, MarketStatus] = {}
        self.offers: list[Offer] = []
        self.histories: dict[str, PriceHistory] = {}
        self.logs: dict[str, list[str]] = {}
        self.telemetry: dict[str, list[TelemetryPoint]] = {}
        self.plan: api.Plan | None = None

    def pass_time(self, seconds: float) -> Scenario:
        self.now += seconds
        return self

    def say(self, kind: str, /, **about: Any) -> Fact:
        """A fact now; workspace, machine, operation and actor are its own fields, the rest is detail."""
        fields = {k: about.pop(k) for k in ("workspace", "machine", "operation", "actor") if k in about}
        fact = Fact(seq=self.state.seq + 1, at=self.now, kind=kind, detail=about, **fields)
        apply(self.state, fact)
        self.facts.append(fact)
        return fact

    def snapshot(self) -> api.Snapshot:
        return api.Snapshot(state=self.state, readings=dict(self.readings), markets=dict(self.markets))

    def hello(self) -> api.Hello:
        return api.Hello(
            protocol=api.PROTOCOL,
            protocol_oldest=api.PROTOCOL_OLDEST,
            version="0.1.0",
            pid=4242,
            started_at=START - 600,
            home="/home/ops/.understudy",
            lab=self.lab,
            owner="3f9c21",
        )

    # -- the market ----------------------------------------------------------------------------------------------------

    def market(self, count: int, provider: str = "vast", age_s: float = 12.0) -> Scenario:
        """So many offers, a fifth of them spot, one in ten unverified."""
        r = self.random
        for i in range(count):
            gpu, vram, usd = MODELS[r.randrange(len(MODELS))]
            region, country = PLACES[r.randrange(len(PLACES))]
            n = r.choice((1, 1, 1, 2, 4, 8))
            spot = r.random() < 0.2
            price = usd * n * r.uniform(0.8, 1.5) * (0.45 if spot else 1.0)
            self.offers.append(
                Offer(
                    id=f"{30_100_000 + i}",
                    provider=provider,
                    gpu=gpu,
                    gpu_count=n,
                    vram_mib=vram,
                    kind="spot" if spot else "on-demand",
                    usd_per_hour=round(price, 4),
                    storage_usd_per_gb_month=0.15,
                    observed_at=self.now - age_s,
                    host_id=str(40_000 + i % 400),
                    machine_ref=str(50_000 + i % 700),
                    region=region,
                    country=country,
                    reliability=round(r.uniform(0.93, 0.999), 4),
                    verified=r.random() > 0.1,
                    min_bid_usd_per_hour=round(price * 0.9, 4) if spot else None,
                    cpu_cores=float(r.choice((8, 16, 32, 64))),
                    ram_mib=r.choice((32, 64, 128, 256)) * 1024,
                    disk_gb=float(r.choice((100, 250, 500, 1000))),
                    inet_down_mbps=round(r.uniform(80, 4000), 1),
                    inet_up_mbps=round(r.uniform(50, 2000), 1),
                    inet_down_usd_per_gb=0.002,
                    inet_up_usd_per_gb=0.004,
                    driver_version="570.86.15",
                    cuda_max=12.8,
                    direct_ports=20,
                    max_duration_s=20 * 86_400.0,
                    source="lab" if self.lab else provider,
                )
            )
        self.markets[provider] = MarketStatus(
            provider=provider, version=1, at=self.now - age_s, count=len(self.offers), ok=True, rows_skipped=1
        )
        return self

    def market_fails(self, why: str, provider: str = "vast") -> Scenario:
        old = self.markets.get(provider)
        at = old.at if old else None
        self.markets[provider] = MarketStatus(
            provider=provider, version=2, at=at, count=old.count if old else 0, ok=False, error=why
        )
        self.say("provider_failed", provider=provider, reason=why, lab=self.lab)
        return self

    def history(self, offer: Offer, days: float = 30.0) -> PriceHistory:
        """A class's history: 30-minute buckets with a hole of six hours, and two days of observations."""
        r = random.Random(len(self.histories) + 11)  # noqa: S311
        base = offer.usd_per_gpu_hour
        points = []
        for i in range(int(days * 48)):
            at = self.now - days * 86_400 + i * 1800.0
            if 9.0 < i / 48 < 9.25:
                continue
            wave = 1 + 0.12 * math.sin(i / 40) + r.uniform(-0.02, 0.02)
            points.append(PricePoint(at, round(base * wave * 0.9, 4), round(base * wave, 4), 30 + i % 9))
        raw = [(self.now - 600.0 * i, round(base * r.uniform(0.85, 1.3), 4), f"{i}") for i in range(288)]
        history = PriceHistory(price_class=class_of(offer), raw=raw, buckets=points)
        self.histories[history.price_class] = history
        return history

    # -- machines ------------------------------------------------------------------------------------------------------

    def ask(self, workspace: str, machine: str, **fields: Any) -> Machine:
        """A workspace asked for, its rent begun, its machine asked of the provider."""
        operation = f"rent-{workspace}"
        spec = UpSpec(
            gpu=fields.get("gpu", "RTX 4090"), count=fields.get("gpu_count", 1), for_s=fields.pop("for_s", None)
        )
        actor = "ops"
        self.say(
            "workspace_asked",
            workspace=workspace,
            operation=operation,
            actor=actor,
            spec=msgspec.to_builtins(spec),
            gpu=spec.gpu,
            gpu_count=spec.count,
        )
        self.say("operation_started", operation=operation, workspace=workspace, actor=actor, kind="rent")
        self.step(operation, "choose an offer", 0.4, "1x RTX 4090, NO, $0.358/h, host 40017", workspace)
        self.asked(operation, workspace, machine, **fields)
        return self.state.machines[machine]

    def asked(self, operation: str, workspace: str, machine: str, **fields: Any) -> None:
        """The machine itself, asked of the provider within an operation."""
        about: dict[str, Any] = {
            "provider": "vast",
            "gpu": "RTX 4090",
            "gpu_count": 1,
            "vram_mib": 24_564,
            "kind": "on-demand",
            "usd_per_hour": 0.358,
            "storage_usd_per_hour": 0.008,
            "disk_gb": 40.0,
            "region": "Norway, NO",
            "country": "NO",
            "host_id": "40017",
            "machine_ref": "50017",
        } | fields
        new = Machine(
            id=machine,
            state="asked",
            state_since=self.now,
            workspace=workspace,
            token=f"{workspace}.{operation}.0",
            asked_at=self.now,
            simulated=self.lab,
            **about,
        )
        detail = {k: about[k] for k in ("provider", "gpu", "gpu_count", "usd_per_hour")}
        self.say(
            "machine_asked",
            machine=machine,
            workspace=workspace,
            operation=operation,
            new_machine=msgspec.to_builtins(new),
            **detail,
        )

    def step(
        self, operation: str, name: str, took_s: float | None, detail: str = "", workspace: str = "", ok: bool = True
    ) -> None:
        """A step that began and, unless `took_s` is None, ended."""
        self.say("step_started", operation=operation, workspace=workspace or None, step=name, attempt=1)
        if took_s is None:
            return
        began = self.now
        self.pass_time(took_s)
        self.say(
            "step_done" if ok else "step_failed",
            operation=operation,
            workspace=workspace or None,
            step=name,
            attempt=1,
            started_at=began,
            took_s=took_s,
            detail=detail,
        )

    def boot(self, workspace: str, machine: str, provider_id: str = "20481177") -> None:
        """Accepted by the provider, and booting."""
        operation = f"rent-{workspace}"
        self.step(operation, "ask for it", 1.2, f"accepted as {provider_id}", workspace)
        self.say(
            "machine_booting",
            machine=machine,
            workspace=workspace,
            operation=operation,
            provider="vast",
            provider_id=provider_id,
            rented_at=self.now,
            provider_state="loading",
        )
        self.step(operation, "boot", None, workspace=workspace)

    def ready(self, workspace: str, machine: str) -> None:
        """Booted, reached, checked: the workspace runs on it."""
        operation = f"rent-{workspace}"
        began = self.now
        self.pass_time(9.4)
        end = {"operation": operation, "workspace": workspace}
        self.say("step_done", **end, step="boot", attempt=1, started_at=began, took_s=9.4, detail="running")
        address = {"address": "127.0.0.1", "port": 40_022, "host_key": "ssh-ed25519 AAAA"}
        self.say("machine_addressed", machine=machine, workspace=workspace, **address)
        self.step(operation, "reach it by SSH", 0.8, "127.0.0.1:40022", workspace)
        self.say("host_key_pinned", machine=machine, fingerprint="SHA256:2k9…", host_key="ssh-ed25519 AAAA")
        self.step(operation, "start the agent", 0.6, "agent 0.1.0", workspace)
        self.say("agent_connected", machine=machine, agent="connected", agent_since=self.now)
        self.say("machine_checking", machine=machine, workspace=workspace)
        self.step(
            operation,
            "check it against its offer",
            1.9,
            "GPU, memory, driver, disk and network as advertised",
            workspace,
        )
        self.say("machine_ready", machine=machine, workspace=workspace, ready_at=self.now, provider_state="running")
        self.say("workspace_ready", workspace=workspace, machine=machine, operation=operation)
        self.step(operation, "ready", 0.0, "", workspace)
        self.say("operation_done", operation=operation, workspace=workspace, kind="rent")

    def run(self, workspace: str, machine: str, **fields: Any) -> None:
        """A workspace that runs, from asked to ready."""
        self.ask(workspace, machine, **fields)
        self.boot(workspace, machine)
        self.ready(workspace, machine)

    def refused(self, workspace: str, machine: str, reason: str) -> None:
        """Found to be a lie in the check, and given back."""
        operation = f"rent-{workspace}"
        self.say(
            "step_done",
            operation=operation,
            workspace=workspace,
            step="boot",
            attempt=1,
            started_at=self.now - 6,
            took_s=6.0,
            detail="running",
        )
        self.step(operation, "reach it by SSH", 0.7, "127.0.0.1:40031", workspace)
        self.step(operation, "start the agent", 0.6, "agent 0.1.0", workspace)
        self.say("machine_checking", machine=machine, workspace=workspace)
        self.step(operation, "check it against its offer", 2.1, reason, workspace, ok=False)
        self.say("machine_refused", machine=machine, workspace=workspace, reason=reason, cost_usd=0.0021)
        self.step(operation, "give it back", 0.9, "accepted", workspace)
        self.say("machine_destroy_accepted", machine=machine, destroy_accepted_at=self.now)

    def read(
        self, machine: str, load: float, *, step: int | None = None, loss: float | None = None, age_s: float = 0.4
    ) -> None:
        """The newest reading of a machine at this load, percent."""
        about = self.state.machines[machine]
        gpus = [
            GpuReading(
                index=i,
                uuid=f"GPU-{i}",
                name=about.gpu,
                utilization_pct=max(0.0, min(100.0, load - 3 * i)),
                memory_used_mib=round(about.vram_mib * (0.1 + 0.007 * load)),
                memory_total_mib=float(about.vram_mib),
                temperature_c=round(38 + load * 0.42 + i),
                power_w=round(60 + load * 3.4),
                power_limit_w=450.0,
                sm_clock_mhz=2520.0,
                fan_pct=40.0,
            )
            for i in range(about.gpu_count)
        ]
        processes = [
            ProcessReading(4711, "python train.py", 98.0, 2150.0, 0, 13_800.0),
            ProcessReading(4802, "dataloader", 41.5, 730.0),
            ProcessReading(112, HOSTILE.replace("\x1b", "·").replace("\x07", "·").replace("\u202e", "·"), 0.3, 12.0),
        ]
        at = self.now - age_s
        progress = None if step is None else Progress(at, step, loss, 20_000)
        self.readings[machine] = MachineReading(
            at=at,
            gpus=gpus,
            processes=processes if load > 1 else processes[2:],
            cpu_pct=round(load / 3, 1),
            cores=16,
            load1=4.2,
            memory_used_mib=21_000.0,
            memory_total_mib=65_536.0,
            disk_used_mib=9_200.0,
            disk_total_mib=40_960.0,
            disk_read_bps=1.2e6,
            disk_write_bps=4.8e6,
            net_rx_bps=2.5e5,
            net_tx_bps=4.1e4,
            progress=progress,
            source="lab" if self.lab else "nvml",
        )

    def minute(self, machine: str, load: Callable[[int], float], begin: int = 0) -> list[api.Delta]:
        """Sixty deltas with a reading each, so that the curves have a past; telemetry is kept as well."""
        deltas = []
        curve = self.telemetry.setdefault(machine, [])
        for i in range(60):
            self.pass_time(1.0)
            step = begin + i * 20
            self.read(
                machine, load(i), step=step, loss=0.35 + 3.9 * math.exp(-step / 900) + 0.02 * math.sin(i), age_s=0.0
            )
            curve.append(point(self.readings[machine]))
            deltas.append(api.Delta(readings={machine: self.readings[machine]}))
        return deltas

    def stranger(self, provider_id: str = "20480001") -> None:
        one = Stranger(
            provider="vast",
            provider_id=provider_id,
            gpu="H100 SXM",
            gpu_count=2,
            usd_per_hour=4.31,
            label="notebook-old",
            seen_at=self.now,
        )
        detail = {"provider": "vast", "provider_id": provider_id, "gpu": one.gpu, "gpu_count": 2}
        self.say("stranger_seen", stranger=msgspec.to_builtins(one), **detail)
