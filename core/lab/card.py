"""One simulated GPU: what it is, and the figures it shows from second to second.

One rule: figures have inertia, like real ones.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

# A plausible card's physics; simulated, and labelled as such wherever it is shown.
AMBIENT_C, FULL_LOAD_RISE_C = 35.0, 45.0
WARMING_S = 20.0  # time constant of the heat sink
IDLE_POWER_SHARE = 0.1
IDLE_AFTER_S = 5.0  # a real driver drops to P8 some seconds after the last work
DRIVER_RESERVED_MIB = 1  # what an idle card shows as used since driver 525


@dataclass(frozen=True)
class Card:
    """What the driver says about the card itself."""

    name: str
    vram_mib: int
    power_limit_w: float
    data_center: bool
    serial: str  # anything that differs between cards of one lab

    @property
    def uuid(self) -> str:
        digits = "".join(f"{zlib.crc32(f'{self.serial}/{i}'.encode()):08x}" for i in range(4))
        return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Shown:
    """The changing figures of one card."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.utilization = 0.0
        self.used_mib = DRIVER_RESERVED_MIB
        self.temperature_c = AMBIENT_C
        self.power_w = card.power_limit_w * IDLE_POWER_SHARE
        self.idle_s = IDLE_AFTER_S

    def step(self, busy: float, used_mib: int, elapsed_s: float) -> None:
        """`busy` 0..1 over the last `elapsed_s`. Utilisation and memory follow at once, heat slowly."""
        self.utilization = busy
        self.used_mib = min(self.card.vram_mib, DRIVER_RESERVED_MIB + used_mib)
        self.idle_s = 0.0 if busy > 0.01 else self.idle_s + elapsed_s
        idle_w = self.card.power_limit_w * IDLE_POWER_SHARE
        self.power_w = idle_w + (self.card.power_limit_w - idle_w) * busy
        goal_c = AMBIENT_C + FULL_LOAD_RISE_C * busy
        self.temperature_c += (goal_c - self.temperature_c) * (1.0 - math.exp(-elapsed_s / WARMING_S))

    @property
    def pstate(self) -> str:
        if self.idle_s >= IDLE_AFTER_S:
            return "P8" if not self.card.data_center else "P0"  # data-center cards stay in P0
        return "P0" if self.card.data_center else "P2"

    def line(self, index: int) -> str:
        """One `gpu` line of the state file; keys are nvidia-smi's field names, values without units."""
        card, bus = self.card, f"00000000:{index + 1:02X}:00.0"
        is_idle = self.pstate == "P8" or self.idle_s >= IDLE_AFTER_S
        name = " ".join(card.name.split())  # a hostile one must not break the line
        percent = round(self.utilization * 100)
        heat = max(0.0, self.temperature_c - 50.0)
        fields = {
            "index": index, "name": name, "uuid": card.uuid, "pci.bus_id": bus, "pci.bus": f"0x{index + 1:02X}",
            "pstate": self.pstate, "temperature.gpu": round(self.temperature_c),
            "fan.speed": "[N/A]" if card.data_center else min(100, round(30 + heat * 2)),
            "utilization.gpu": percent, "utilization.memory": min(100, round(percent * 0.6)),
            "memory.total": card.vram_mib, "memory.used": self.used_mib,
            "memory.free": card.vram_mib - self.used_mib, "memory.reserved": 0,
            "power.draw": f"{self.power_w:.2f}", "power.limit": f"{card.power_limit_w:.2f}",
            "power.min_limit": f"{card.power_limit_w / 2:.2f}",
            "clocks.current.graphics": 210 if is_idle else 1980, "clocks.max.graphics": 2100,
            "clocks.current.memory": 405 if is_idle else 2619, "clocks.max.memory": 2619,
            "clocks.current.video": 555 if is_idle else 1545,
            "ecc.mode.current": "Enabled" if card.data_center else "[N/A]",
            "ecc.mode.pending": "Enabled" if card.data_center else "[N/A]",
            "mig.mode.current": "Disabled" if card.data_center else "[N/A]",
        }  # fmt: skip
        return "gpu " + "\t".join(f"{key}={value}" for key, value in fields.items())
