"""What this machine is: said once in the hello, and measured on request so that it can be judged against its offer.

One rule: a measurement is short, bounded in bytes and in seconds, and leaves nothing behind.
"""

from __future__ import annotations

import os
import platform
import pwd
import subprocess
import time

from core.agent import place, sample
from core.agent.gpus import Gpus

CHUNK = 1024 * 1024
MAX_DISK_MIB = 1024
MAX_WRITE_S = 20.0
DF_TIMEOUT_S = 5.0


def hello(gpus: Gpus, workspace: str, cores: int) -> dict[str, object]:
    """Who speaks: software, isolation, GPUs as the driver names them."""
    seen = gpus.now()
    _, memory = sample.memory_mib()
    _, disk = sample.disk_mib(workspace)
    return {
        "boot_id": place.boot_id(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "system": platform.platform()[:120],
        "hostname": platform.node()[:80],
        "user": _user(),
        "home": place.home(),
        "workspace": workspace,
        "isolation": isolation(),
        "cores": cores,
        "memory_mib": memory,
        "disk_mib": disk,
        "gpus": [[row[0], row[1], row[2], row[5]] for row in seen.rows],
        "driver": gpus.driver,
        "cuda": gpus.cuda,
        "source": seen.source,
        "problem": seen.problem,
    }


def isolation() -> str:
    """`container`, `lab` or `machine`, by what can be seen from inside."""
    if os.environ.get("LAB_MACHINE"):
        return "lab"
    marks = ("/.dockerenv", "/run/.containerenv")
    groups = place.read_text("/proc/1/cgroup") + place.read_text("/proc/1/environ")
    inside = any(word in groups for word in ("docker", "kubepods", "containerd", "container=", "lxc"))
    return "container" if inside or any(os.path.exists(mark) for mark in marks) else "machine"


def judge(workspace: str, disk_mib: int, cores: int) -> dict[str, object]:
    """Sizes and the speed of the workspace's disk: what reaches it, not what memory takes. Raises OSError."""
    used, total = sample.disk_mib(workspace)
    granted = df_total_mib(workspace)
    if granted is not None and (total is None or granted < total):
        total = granted
    _, memory = sample.memory_mib()
    return {
        "disk_write_bps": write_bps(workspace, min(MAX_DISK_MIB, max(1, disk_mib))),
        "disk_used_mib": used,
        "disk_total_mib": total,
        "memory_mib": memory,
        "cores": cores,
    }


def df_total_mib(folder: str) -> float | None:
    """The size that `df` shows: where a quota is told by the tool and not by the kernel, it is the smaller one."""
    try:
        done = subprocess.run(
            ["df", "-kP", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DF_TIMEOUT_S,
            check=False,
        )
        return float(done.stdout.split(b"\n")[1].split()[1]) / 1024
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def write_bps(folder: str, mib: int) -> float:
    """Bytes per second written to a file there and synchronised; ends early on a slow disk. Raises OSError."""
    path = os.path.join(folder, f".understudy-disk-{os.getpid()}")
    chunk = os.urandom(CHUNK)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.unlink(path)
        began = time.monotonic()
        written = 0
        while written < mib * CHUNK and time.monotonic() - began < MAX_WRITE_S:
            written += os.write(handle, chunk)
            if written % (16 * CHUNK) == 0:
                os.fdatasync(handle)
        os.fsync(handle)
        return written / max(1e-6, time.monotonic() - began)
    finally:
        os.close(handle)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
