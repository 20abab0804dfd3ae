"""What a machine's /proc says of its hardware, as text.

One rule: simulated sizes, real use, and always the same length, so that a bound file can be rewritten in place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from core.lab.processes import TICKS_PER_S

CPU_MODEL = "Understudy lab vCPU (simulated)"


def cpuinfo(cores: int) -> str:
    """One block per core, the lines that lscpu and libraries read."""
    blocks = []
    for index in range(cores):
        fields = {
            "processor": index, "vendor_id": "Understudy", "model name": CPU_MODEL, "cpu MHz": "2450.000",
            "physical id": 0, "siblings": cores, "core id": index, "cpu cores": cores,
        }  # fmt: skip
        blocks.append("".join(f"{name:<12}\t: {value}\n" for name, value in fields.items()))
    return "\n".join(blocks)


def meminfo(ram_mib: int, *, used_mib: int) -> str:
    """The lines that `free` and psutil read."""
    total, used = ram_mib * 1024, min(used_mib, ram_mib) * 1024
    values = {
        "MemTotal": total, "MemFree": total - used, "MemAvailable": total - used, "Buffers": 0, "Cached": 0,
        "SwapCached": 0, "Active": used, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Dirty": 0, "Shmem": 0,
        "SReclaimable": 0, "Slab": 0,
    }  # fmt: skip
    return "".join(f"{name + ':':<16}{value:>12} kB\n" for name, value in values.items())


@cache
def host_boot_time_s() -> int:
    """Epoch seconds. Processes count their start from this host's boot, so `ps` needs the host's and no other."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise OSError("/proc/stat has no btime")


def stat(cores: int, *, busy_ticks: int, up_s: float) -> str:
    """/proc/stat of a machine of `cores` cores that has spent `busy_ticks` of CPU since its boot, `up_s` ago."""
    idle = max(0, int(up_s * TICKS_PER_S) * cores - busy_ticks)

    def line(name: str, user: int, rest: int) -> str:
        return f"{name:<6} {user:>14} 0 0 {rest:>14} 0 0 0 0 0 0\n"

    each = [line(f"cpu{index}", busy_ticks // cores, idle // cores) for index in range(cores)]
    booted = host_boot_time_s()
    return (
        line("cpu", busy_ticks, idle)
        + "".join(each)
        + f"ctxt 0\nbtime {booted:>12}\nprocesses 0\nprocs_running 1\nprocs_blocked 0\n"
    )
