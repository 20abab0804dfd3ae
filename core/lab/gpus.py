"""The GPU models of the lab's market.

Its one rule: every price here is a figure somebody published, with its date.

Prices are USD per GPU-hour on Vast.ai. `on_demand` and `floor` are medians of verified offers seen 2026-07-07 to
2026-07-20 (on demand, and the lowest winning interruptible bid) where a floor is given. For the other models
`on_demand` is the median of the market snapshot of 2025-12-07T20:30Z (all offers), and the floor follows from
FLOOR_SHARE. VRAM is what nvidia-smi reports, MiB. Throughput, bandwidth and power limits are the vendors' data
sheets (dense, no sparsity).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class GpuModel:
    """One model as the market names it (`name`) and as its driver names it (`driver_name`)."""

    name: str
    driver_name: str
    arch: str
    vram_mib: int
    bandwidth_gb_s: float
    half_tflops: float
    single_tflops: float
    power_limit_w: float
    data_center: bool
    compute_cap: int
    on_demand: float
    floor: float | None = None

    @property
    def floor_usd(self) -> float:
        """The usual winning bid, USD per GPU-hour."""
        return self.floor if self.floor is not None else round(self.on_demand * FLOOR_SHARE, 4)

    @property
    def dlperf(self) -> float:
        """The market's score, scaled by dense half-precision throughput from the 96.1 of a published RTX 4090 row."""
        return round(96.1 * self.half_tflops / 165.2, 1)


# Snapshot medians 2025-12-07: 3090 .16, A100 PCIe .73, H100 NVL 2.13, A6000 .38, PRO 6000 WS .89, T4 .14, V100 .18.
# July 2026 medians (on demand | floor): 4090 .47|.33, 5090 .60|.37, A100 SXM 1.03|.80, H100 SXM 2.20|1.07, H200
# 3.75|2.93, L40S 1.00|.53, B200 8.13|7.50.
# A100 SXM 40 GB: cheapest seen 2026-10-01, .47 (one feed); the median of its class is not published.
MODELS: tuple[GpuModel, ...] = (
    GpuModel("Tesla T4", "Tesla T4", "Turing", 15360, 320, 65, 8.1, 70, True, 750, 0.14),
    GpuModel("RTX 3090", "NVIDIA GeForce RTX 3090", "Ampere", 24576, 936, 71, 35.6, 350, False, 860, 0.16),
    GpuModel("Tesla V100", "Tesla V100-SXM2-16GB", "Volta", 16384, 900, 125, 15.7, 300, True, 700, 0.18),
    GpuModel("RTX A6000", "NVIDIA RTX A6000", "Ampere", 49140, 768, 154.8, 38.7, 300, False, 860, 0.38),
    GpuModel("RTX 4090", "NVIDIA GeForce RTX 4090", "Ada", 24564, 1008, 165.2, 82.6, 450, False, 890, 0.47, 0.33),
    GpuModel("A100 SXM4", "NVIDIA A100-SXM4-40GB", "Ampere", 40960, 1555, 312, 19.5, 400, True, 800, 0.47),
    GpuModel(
        "RTX 5090", "NVIDIA GeForce RTX 5090", "Blackwell", 32607, 1792, 209.5, 104.8, 575, False, 1200, 0.60, 0.37
    ),
    GpuModel("A100 PCIE", "NVIDIA A100-PCIE-40GB", "Ampere", 40960, 1555, 312, 19.5, 250, True, 800, 0.73),
    GpuModel(
        "RTX PRO 6000 WS",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "Blackwell",
        97887,
        1792,
        503.8,
        125,
        600,
        False,
        1200,
        0.89,
    ),
    GpuModel("L40S", "NVIDIA L40S", "Ada", 46068, 864, 362, 91.6, 350, True, 890, 1.00, 0.53),
    GpuModel("A100 SXM4", "NVIDIA A100-SXM4-80GB", "Ampere", 81920, 2039, 312, 19.5, 400, True, 800, 1.03, 0.80),
    GpuModel("H100 NVL", "NVIDIA H100 NVL", "Hopper", 95830, 3900, 835, 60, 400, True, 900, 2.13),
    GpuModel("H100 SXM", "NVIDIA H100 80GB HBM3", "Hopper", 81559, 3350, 989, 67, 700, True, 900, 2.20, 1.07),
    GpuModel("H200", "NVIDIA H200", "Hopper", 143771, 4800, 989, 67, 700, True, 900, 3.75, 2.93),
    GpuModel("B200", "NVIDIA B200", "Blackwell", 183359, 7700, 2250, 75, 1000, True, 1000, 8.13, 7.50),
)

# The floor's share of the on-demand price, where none is published: the median over the seven models that have both.
FLOOR_SHARE = median(model.floor / model.on_demand for model in MODELS if model.floor is not None)


def model(driver_name: str) -> GpuModel:
    """The model that a driver reports as `driver_name`. Raises KeyError for an unknown one."""
    return _BY_DRIVER_NAME[driver_name]


_BY_DRIVER_NAME = {each.driver_name: each for each in MODELS}
