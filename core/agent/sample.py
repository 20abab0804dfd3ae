"""CPU, memory, disk and network of this machine. One rule: a figure that cannot be had is None, never a guess.

Inside a container the control group's limits are the machine; outside, the kernel's own totals are.
"""

from __future__ import annotations

import os
import subprocess
import time

from core.agent import place

NPROC_TIMEOUT_S = 2.0
MIB = 1048576.0


def cores() -> int:
    """CPUs that this machine may use: what `nproc` says, at most what its control group grants."""
    try:
        said = subprocess.run(
            ["nproc"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=NPROC_TIMEOUT_S,
        ).stdout
        count = int(said)
    except (OSError, ValueError, subprocess.SubprocessError):
        count = len(os.sched_getaffinity(0))
    granted = _granted_cores()
    return max(1, min(count, granted) if granted else count)


def _granted_cores() -> int | None:
    words = place.read_text("/sys/fs/cgroup/cpu.max").split()
    if len(words) != 2:
        words = [
            place.read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip(),
            place.read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip(),
        ]
    try:
        quota, period = int(words[0]), int(words[1])
    except ValueError:
        return None
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None


def memory_mib() -> tuple[float | None, float | None]:
    """(used, total), without what the kernel only caches."""
    rows = {}
    for line in place.read_text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            rows[name] = int(words[0]) / 1024.0
    total, free = rows.get("MemTotal"), rows.get("MemAvailable")
    limited = _group_memory_mib()
    if limited is not None and (total is None or limited[1] < total):
        return limited
    return (total - free if total is not None and free is not None else None), total


def _group_memory_mib() -> tuple[float, float] | None:
    base = "/sys/fs/cgroup/"
    for used, limit, stat, cache in (
        ("memory.current", "memory.max", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            have, most = int(place.read_text(base + used)), int(place.read_text(base + limit))
        except ValueError:
            continue
        rows = dict(line.split(" ", 1) for line in place.read_text(base + stat).splitlines() if " " in line)
        cached = rows.get(cache, "0")
        return max(0.0, have - (int(cached) if cached.isdigit() else 0)) / MIB, most / MIB
    return None


def disk_mib(path: str) -> tuple[float | None, float | None]:
    """(used, total) of the file system that holds the workspace."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None, None
    total = status.f_blocks * status.f_frsize
    return (total - status.f_bfree * status.f_frsize) / MIB, total / MIB


def load1() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


class Network:
    """Bytes per second in and out over every interface but the loopback."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def rates(self) -> tuple[float | None, float | None]:
        now, received, sent = time.monotonic(), 0, 0
        lines = place.read_text("/proc/net/dev").splitlines()[2:]
        for line in lines:
            name, _, rest = line.partition(":")
            fields = rest.split()
            if name.strip() != "lo" and len(fields) > 8 and fields[0].isdigit() and fields[8].isdigit():
                received += int(fields[0])
                sent += int(fields[8])
        last, self._last = self._last, (now, received, sent)
        if not lines or last is None or now <= last[0]:
            return None, None
        return max(0, received - last[1]) / (now - last[0]), max(0, sent - last[2]) / (now - last[0])
