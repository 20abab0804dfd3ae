"""One report: everything measured now, as arrays. One rule: the order of fields only ever grows at the end.

Positions are named by the tuples below; the receiving end has structures of the same order.
"""

from __future__ import annotations

from core.agent import sample, tail
from core.agent.gpus import Gpus, Snapshot
from core.agent.processes import Table, holds_gpu

MAX_PROCESSES = 32
GPU_FIELDS = (
    *("index", "uuid", "name", "utilization_pct", "memory_used_mib", "memory_total_mib", "temperature_c"),
    *("power_w", "power_limit_w", "sm_clock_mhz", "fan_pct", "pstate"),
)
PROCESS_FIELDS = ("pid", "name", "cpu_pct", "memory_mib", "gpu_index", "gpu_memory_mib")
PROGRESS_FIELDS = ("at", "step", "loss", "steps")  # `at` travels as an age in seconds: clocks differ
REPORT_FIELDS = (
    *("at", "gpus", "processes", "cpu_pct", "cores", "load1", "memory_used_mib", "memory_total_mib"),
    *("disk_used_mib", "disk_total_mib", "disk_read_bps", "disk_write_bps", "net_rx_bps", "net_tx_bps"),
    *("progress", "source", "problem"),
)


class Reporter:
    """Measures; keeps what rates need from one report to the next."""

    def __init__(self, gpus: Gpus, workspace: str, lab_machine: str) -> None:
        self._gpus = gpus
        self._workspace = workspace
        self._table = Table(lab_machine)
        self._network = sample.Network()
        self.cores = sample.cores()

    def report(self) -> list[object]:
        """In the order of REPORT_FIELDS; `at` is 0: the receiver sets its own time."""
        self._table.pass_()
        seen = self._gpus.now()
        used, total = sample.memory_mib()
        disk_used, disk_total = sample.disk_mib(self._workspace)
        received, sent = self._network.rates()
        busy = self._table.cpu_s_per_s
        return [
            0.0,
            seen.rows,
            self._processes(seen),
            None if busy is None else _round(min(100.0, busy / self.cores * 100.0)),
            self.cores,
            sample.load1(),
            _round(used),
            _round(total),
            _round(disk_used),
            _round(disk_total),
            _round(self._table.read_bps),
            _round(self._table.write_bps),
            _round(received),
            _round(sent),
            tail.progress(self._workspace),
            seen.source,
            seen.problem,
        ]

    def _processes(self, seen: Snapshot) -> list[list[object]]:
        """Those on a GPU first, then by CPU."""
        rows: list[list[object]] = []
        on_gpu: set[int] = set()
        for pid, name, used, index in seen.apps[:MAX_PROCESSES]:
            on_gpu.add(pid)
            here = seen.source != "nvml" or holds_gpu(pid)
            one = self._table.seen.get(pid) if here else None
            shown = (self._table.name(pid) if here else "") or name or "(not of this container)"
            cpu, resident = (None, None) if one is None else (_round(one.cpu_pct), _round(one.resident_mib))
            rows.append([pid, shown, cpu, resident, index, _round(used)])
        for pid in self._table.top(MAX_PROCESSES - len(rows), on_gpu):
            one = self._table.seen[pid]
            rows.append([pid, self._table.name(pid), _round(one.cpu_pct), _round(one.resident_mib), None, None])
        return rows


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
