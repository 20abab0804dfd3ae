"""What the command line costs."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.figures import Figure, median_of
from tests.bench.rig import ROOT


def help_page(times: int) -> dict[str, Figure]:
    """`cli.help_cpu_ms`: the whole process of `understudy --help`."""
    samples = [cpu_ms("-m", "core.cli", "--help") for _ in range(times + 1)][1:]
    return {"cli.help_cpu_ms": median_of(samples, "ms CPU", "<= 150")}


def cpu_ms(*words: str) -> float:
    """CPU milliseconds of `python WORDS`, from start to end."""
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return (used.ru_utime + used.ru_stime) * 1000
