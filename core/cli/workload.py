"""Starting the demo's training on a machine, the way anyone would: push a file, run a command over SSH."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import core.cli
from core.cli import openssh
from core.cli.copy import transfer
from core.cli.output import one_line
from core.domain.api import Endpoint
from core.domain.errors import UnderstudyError

SCRIPT = "train.py"
LAB_VRAM_MIB = 9000  # what the lab's GPU figures say that it holds
START_S = 30.0
_READY = "started"


def start_training(endpoint: Endpoint) -> None:
    """Returns when it runs. It belongs to the machine from then on: no connection holds it. Raises UnderstudyError."""
    source = Path(core.cli.__file__).with_name("training.py")
    with tempfile.TemporaryDirectory(prefix="understudy-push-") as folder:
        here = Path(folder, SCRIPT)
        shutil.copyfile(source, here)
        transfer(endpoint, "push", str(here), SCRIPT, lambda *_: None)
    # our own interpreter has numpy; a lab machine sees it, under the same path
    command = (
        f"python={shlex.quote(sys.executable)}\n"
        '"$python" -c "import numpy" 2>/dev/null || python=python3\n'
        "mkdir -p logs\n"
        f"LAB_VRAM_MIB={LAB_VRAM_MIB} OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 "
        f'nohup setsid "$python" {SCRIPT} >>logs/train.log 2>&1 </dev/null &\n'
        f"echo {_READY}"
    )
    words = openssh.command(endpoint, openssh.in_workspace(endpoint, [command]))
    done = subprocess.run(words, capture_output=True, timeout=START_S, check=False, stdin=subprocess.DEVNULL)
    if _READY not in done.stdout.decode("utf-8", "replace"):
        said = one_line(done.stderr.decode("utf-8", "replace").strip())[-200:]
        raise UnderstudyError(f"The training did not start: {said or f'status {done.returncode}'}.")
