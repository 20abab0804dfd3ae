"""The lab's market: prices that move in steps, floors for bids, other renters who come and go.

Its one rule: it moves only when the world's clock says so.

Prices stand still most of the time and then step, as published price series do (75 % of hourly steps are exactly
zero); they are pulled back toward where the host started and stay within LOWEST and HIGHEST of it.
"""

from __future__ import annotations

import random

from core.lab.catalogue import CloudHost
from core.lab.state import MarketHost

MARKET_STEP_S = 60.0
RENTERS_STEP_S = 45.0
LOWEST, HIGHEST = 0.85, 1.2
FLOOR_LOWEST, FLOOR_HIGHEST = 0.6, 1.5
# a minute's chance to move: on demand as published series do (1 - 0.75 ** (1 / 60)); floors are livelier, by the
# lab's choice
_MOVES = 0.0048
_FLOOR_MOVES = 0.03
_OCCUPANCY = 0.35


def opening(rng: random.Random, hosts: dict[int, CloudHost]) -> dict[int, MarketHost]:
    """The market of the first day: every host at its own price, about a third of the GPUs held by others."""
    market = {}
    for host in hosts.values():
        others = 0
        if host.gpu_count > 1 and host.lie is None:
            others = sum(rng.random() < _OCCUPANCY for _ in range(host.gpu_count))
        market[host.machine_id] = MarketHost(
            usd_per_gpu_hour=host.usd_per_gpu_hour, floor_usd_per_gpu_hour=host.floor_usd_per_gpu_hour, others=others
        )
    return market


def _step(rng: random.Random, now: float, home: float, low: float, high: float, spread: float) -> float:
    pulled = now + 0.1 * (home - now)
    return round(min(max(pulled * rng.lognormvariate(0.0, spread), home * low), home * high), 4)


def move_prices(rng: random.Random, hosts: dict[int, CloudHost], market: dict[int, MarketHost]) -> None:
    """One minute of every price: most stand still."""
    for machine_id, row in market.items():
        host = hosts[machine_id]
        if rng.random() < _MOVES:
            row.usd_per_gpu_hour = _step(rng, row.usd_per_gpu_hour, host.usd_per_gpu_hour, LOWEST, HIGHEST, 0.04)
        if rng.random() < _FLOOR_MOVES:
            floor = _step(
                rng, row.floor_usd_per_gpu_hour, host.floor_usd_per_gpu_hour, FLOOR_LOWEST, FLOOR_HIGHEST, 0.05
            )
            row.floor_usd_per_gpu_hour = min(floor, row.usd_per_gpu_hour)


def move_renters(
    rng: random.Random, hosts: dict[int, CloudHost], market: dict[int, MarketHost], ours: dict[int, int]
) -> None:
    """One other renter comes to or leaves a host.

    `ours` = GPUs per machine that contracts of the lab's account hold.
    """
    shared = [host for host in hosts.values() if host.gpu_count > 1 and host.lie is None]
    host = rng.choice(shared)
    row = market[host.machine_id]
    free = host.gpu_count - row.others - ours.get(host.machine_id, 0)
    target = _OCCUPANCY * host.gpu_count
    if row.others and (free == 0 or rng.random() < row.others / (2 * target)):
        row.others -= 1
    elif free > 0:
        row.others += 1
