"""Readings: what a machine measures, once a second; the latest wins and none is kept for ever. Pure.

Array-like on the wire: 1000 machines with 8 GPUs each are 8000 rows a second. `None` is "the driver does not say".
They hold figures and each other, never a way back: the garbage collector has nothing to find in them (`gc=False`).
"""

from __future__ import annotations

import msgspec


class GpuReading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    index: int
    uuid: str
    name: str
    utilization_pct: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    fan_pct: float | None = None
    pstate: str | None = None


class ProcessReading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pid: int
    name: str
    cpu_pct: float | None = None
    memory_mib: float | None = None
    gpu_index: int | None = None
    gpu_memory_mib: float | None = None


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest line of a workload's `progress.jsonl`."""

    at: float
    step: int
    loss: float | None = None
    steps: int | None = None


class MachineReading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One report. `at` is the engine's time of receipt, never the machine's clock."""

    at: float
    gpus: list[GpuReading] = []
    processes: list[ProcessReading] = []
    cpu_pct: float | None = None
    cores: int | None = None
    load1: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    disk_used_mib: float | None = None
    disk_total_mib: float | None = None
    disk_read_bps: float | None = None
    disk_write_bps: float | None = None
    net_rx_bps: float | None = None
    net_tx_bps: float | None = None
    progress: Progress | None = None
    source: str = ""
    problem: str | None = None


class TelemetryPoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A machine's figures at one instant, mean over its GPUs, for the 60 s curves and the history."""

    at: float
    utilization_pct: float | None
    memory_used_mib: float | None
    power_w: float | None
    temperature_c: float | None
    cpu_pct: float | None
    loss: float | None = None
    step: int | None = None


def mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def point(reading: MachineReading) -> TelemetryPoint:
    """The reading as one point of its machine's curve: means, the hottest GPU, the sum of memory and power."""
    gpus = reading.gpus
    temperatures = [g.temperature_c for g in gpus if g.temperature_c is not None]
    used = [g.memory_used_mib for g in gpus if g.memory_used_mib is not None]
    watts = [g.power_w for g in gpus if g.power_w is not None]
    return TelemetryPoint(
        at=reading.at,
        utilization_pct=mean([g.utilization_pct for g in gpus]),
        memory_used_mib=sum(used) if used else None,
        power_w=sum(watts) if watts else None,
        temperature_c=max(temperatures) if temperatures else None,
        cpu_pct=reading.cpu_pct,
        loss=reading.progress.loss if reading.progress else None,
        step=reading.progress.step if reading.progress else None,
    )
