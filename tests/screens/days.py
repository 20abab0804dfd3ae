"""Days at the console: what had happened before a picture is taken. One rule: each is told by facts, in order."""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.domain import api
from core.domain.market import class_of
from core.domain.readings import TelemetryPoint
from tests.screens.scenario import Scenario

Made = tuple[Scenario, Sequence[api.Delta]]
"""What the engine knows, and the readings that came in the minute before."""
TRAINS = "m-k3j9x2qa"


def empty() -> Made:
    s = Scenario()
    s.say("engine_started", version="0.1.0")
    return s, ()


def working() -> Made:
    """One workspace that trains."""
    s = Scenario()
    s.say("engine_started", version="0.1.0")
    s.run("tts", "m-k3j9x2qa")
    s.market(240)
    past = s.minute("m-k3j9x2qa", lambda i: 90.0 - i % 7, begin=2_000)
    s.logs["m-k3j9x2qa:log"] = [f"step {2_000 + 20 * i} loss {2.4 - i / 200:.4f} 41.2 ms" for i in range(150)]
    return s, past


def planned() -> Made:
    """A market with the history of its cheapest class, and a plan for whatever is wished."""
    s, past = working()
    for offer in s.offers:
        if class_of(offer) not in s.histories:
            s.history(offer)
    s.plan = api.Plan(
        offers=s.offers[:4],
        all_in_usd_per_hour=0.366,
        usd_per_day=8.784,
        usd_for_duration=2.928,
        budget_left_usd_per_hour=4.64,
        budget_left_usd_month=199.1,
        machines_left=3,
        refused=None,
        boot_s_expected=38.0,
    )
    return s, past


def refused() -> Made:
    s, past = planned()
    assert s.plan is not None
    s.plan = api.Plan(
        offers=s.plan.offers,
        all_in_usd_per_hour=7.31,
        usd_per_day=175.44,
        usd_for_duration=None,
        budget_left_usd_per_hour=4.64,
        budget_left_usd_month=199.1,
        machines_left=3,
        refused="$7.310/h more would make $7.67/h; the limit is $5.00/h.",
        hint="Take a cheaper offer, or raise it: understudy budget set --usd-per-hour X.",
    )
    return s, past


def failing_market() -> Made:
    s, _ = empty()
    s.market_fails("The key was refused (401).")
    return s, ()


def booting() -> Made:
    s, past = working()
    s.ask("llm", "m-bbbb2222", gpu="H100 SXM", vram_mib=81_559, usd_per_hour=2.31, region="Germany, DE", country="DE")
    s.boot("llm", "m-bbbb2222", "20481181")
    s.logs["m-bbbb2222:provider-log"] = ["pulling image pytorch/pytorch:2.9.0", "extracting layer 7 of 11"]
    s.pass_time(21)
    s.read("m-k3j9x2qa", 91.0, step=3_300, loss=1.9)
    return s, past


def full(seed: int = 7) -> Made:
    """A workspace that trains, one that rents after a lie, one at risk, a machine being destroyed, a stranger."""
    s = Scenario(seed)
    s.say("engine_started", version="0.1.0")
    s.say("provider_recovered", provider="vast", credit_usd=25.0, lab=True)
    s.say("budget_set", usd_per_hour=20.0, usd_per_month=500.0, machines=8, actor="ops")
    s.pass_time(30)
    s.run("eval", "m-b2c3d4e5", gpu="A100 80GB", vram_mib=81_920, usd_per_hour=1.12, region="Texas, US", country="US")
    s.pass_time(400)
    s.run("tts", TRAINS, gpu_count=8, usd_per_hour=2.91)
    s.pass_time(120)
    _being_destroyed(s)
    s.stranger()
    _rents_after_a_lie(s)
    s.say("machine_lost", machine="m-b2c3d4e5", workspace="eval", reason="no heartbeat, and the provider sees nothing")
    s.say("workspace_lost", workspace="eval", machine="m-b2c3d4e5", reason="no heartbeat for 2 s")
    deltas = s.minute(TRAINS, lambda i: 88 + 9 * math.sin(i / 5), begin=11_200)
    s.market(83)
    s.telemetry[TRAINS] = curve_before(s, TRAINS) + s.telemetry[TRAINS]
    return s, deltas


def _being_destroyed(s: Scenario) -> None:
    s.run("old", "m-zz11aa22", gpu="RTX 3090", usd_per_hour=0.17, region="Quebec, CA", country="CA")
    s.pass_time(300)
    s.say("workspace_retiring", workspace="old", actor="ops")
    s.say("machine_destroying", machine="m-zz11aa22", reason="asked by ops", destroy_asked_at=s.now)
    s.say("machine_destroy_accepted", machine="m-zz11aa22", destroy_accepted_at=s.now)


def _rents_after_a_lie(s: Scenario) -> None:
    h100 = {"gpu": "H100 SXM", "vram_mib": 81_559}
    s.ask("llm", "m-aaaa1111", **h100, usd_per_hour=2.25, region="Czechia, CZ", country="CZ", for_s=28_800.0)
    s.boot("llm", "m-aaaa1111", "20481180")
    s.pass_time(6)
    s.refused("llm", "m-aaaa1111", "The driver is 535.183.01; 570.86.15 was advertised.")
    s.step("rent-llm", "choose an offer", 0.3, "1x H100 SXM, DE, $2.310/h, host 40231", "llm")
    place = {"region": "Germany, DE", "country": "DE", "host_id": "40231"}
    s.asked("rent-llm", "llm", "m-bbbb2222", **h100, usd_per_hour=2.31, **place)
    s.boot("llm", "m-bbbb2222", "20481181")


def curve_before(s: Scenario, machine: str) -> list[TelemetryPoint]:
    """The ten minutes before the last one, every five seconds."""
    first = s.telemetry[machine][0]
    out = []
    for i in range(120):
        step = i * 93
        out.append(
            TelemetryPoint(
                at=first.at - (120 - i) * 5.0,
                utilization_pct=90.0,
                memory_used_mib=110_000.0,
                power_w=2900.0,
                temperature_c=74.0,
                cpu_pct=30.0,
                loss=0.35 + 3.9 * math.exp(-step / 900) + 0.05 * math.sin(i * 1.7),
                step=step,
            )
        )
    return out
