"""Commands that the lab itself runs inside a machine, for its faults.

One rule: they end within their time, whatever they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from core.lab.enter import NOT_RUN
from core.lab.links import scrubbed_environment
from core.lab.specs import Booted
from core.lab.sshd import Place

# An overlay whose upper layer is a full file system of its own: what is there can be read, nothing new can be written.
FILL_DISK = """set -e
[ -e /run/lab-full/upper ] && exit 0
mkdir -p /run/lab-full
mount -t tmpfs -o size=64k,mode=700 lab-full /run/lab-full
mkdir /run/lab-full/upper /run/lab-full/work
mount -t overlay -o lowerdir=/workspace,upperdir=/run/lab-full/upper,workdir=/run/lab-full/work lab-full /workspace
dd if=/dev/zero of=/run/lab-full/filler bs=4k 2>/dev/null || true
"""
FREE_DISK = """[ -e /run/lab-full/upper ] || exit 0
umount -l /workspace && umount -l /run/lab-full
"""


async def run(
    machine_id: str, booted: Booted, argv: Sequence[str], *, user_namespace: bool, timeout_s: float
) -> tuple[int, bytes]:
    """(exit status, stdout+stderr) of `argv` as the machine's root. Raises TimeoutError; all of it is killed then."""
    is_ns = booted.isolation == "ns"
    place = Place(machine_id, "" if is_ns else str(booted.root), {}, "")
    env = place.environ("root")
    command = list(argv)
    if is_ns:
        command = [sys.executable, "-m", "core.lab.enter", str(booted.init_pid), str(int(user_namespace)), "--", *argv]
        env["PYTHONPATH"] = scrubbed_environment()["PYTHONPATH"]
    directory = "/" if is_ns else place.home("root")
    try:
        child = await asyncio.create_subprocess_exec(
            *command, env=env, cwd=directory, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        return NOT_RUN, f"{argv[0]}: {error.strerror}\n".encode()
    try:
        output, _ = await asyncio.wait_for(child.communicate(), timeout_s)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        raise
    return child.returncode if child.returncode is not None else -1, output
