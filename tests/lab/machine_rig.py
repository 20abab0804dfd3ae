"""A lab home with real machines, and the real OpenSSH clients to use them with.

One rule: whatever a test leaves running is found and named by `leftovers`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.lab.host import Booted, GpuSpec, Host, MachineSpec

RTX_4090 = GpuSpec("NVIDIA GeForce RTX 4090", 24_564, 450.0, data_center=False)
H100 = GpuSpec("NVIDIA H100 80GB HBM3", 81_559, 700.0, data_center=True)
CLIENT_LIMIT_S = 60.0


@dataclass(frozen=True)
class Finished:
    """How a client ended."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode().strip()


async def finish(argv: list[str], *, stdin: bytes = b"", env: dict[str, str] | None = None) -> Finished:
    """Run a client to its end; one that hangs is killed and fails the test."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    try:
        out, err = await asyncio.wait_for(child.communicate(stdin), CLIENT_LIMIT_S)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Finished(child.returncode or 0, out, err)


@dataclass
class Rig:
    """One lab home."""

    directory: Path
    host: Host

    @property
    def key(self) -> Path:
        return self.directory / "id"

    def spec(self, machine_id: str, **changes: Any) -> MachineSpec:
        spec = MachineSpec(
            id=machine_id, hostname=f"box-{machine_id}", gpus=(RTX_4090,), driver_version="570.86.15",
            cuda_version="12.8", cores=8, ram_mib=64_000, disk_gb=100.0,
            authorized_keys=(self.key.with_suffix(".pub").read_text(),), env={"CONTAINER_ID": machine_id}, onstart="",
        )  # fmt: skip
        return replace(spec, **changes)

    def options(self) -> list[str]:
        return [
            "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20",
        ]  # fmt: skip

    def ssh_argv(self, booted: Booted, *command: str, options: tuple[str, ...] = (), user: str = "root") -> list[str]:
        # OpenSSH takes the first value of an option
        return ["ssh", *options, *self.options(), "-p", str(booted.direct[1]), f"{user}@{booted.direct[0]}", *command]

    async def ssh(
        self, booted: Booted, *command: str, options: tuple[str, ...] = (), user: str = "root", stdin: bytes = b""
    ) -> Finished:
        return await finish(self.ssh_argv(booted, *command, options=options, user=user), stdin=stdin)

    def leftovers(self) -> list[str]:
        """Command lines of living processes that belong to this home."""
        mark = os.fsencode(self.directory)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
                except OSError:
                    continue
                if mark in about and state != b"Z":
                    found.append(about[:80].decode(errors="replace"))
        return found


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@asynccontextmanager
async def lab(isolation: str = "ns") -> AsyncIterator[Rig]:
    """A home of its own; everything in it has ended when the block ends."""
    before = os.environ.get("LAB_ISOLATION")
    os.environ["LAB_ISOLATION"] = isolation
    with tempfile.TemporaryDirectory(prefix="understudy-lab-test-") as name:
        directory = Path(name)
        try:
            make_key(directory / "id")
            rig = Rig(directory, await Host.start(directory / "lab", with_parent=True))
        finally:
            if before is None:
                del os.environ["LAB_ISOLATION"]
            else:
                os.environ["LAB_ISOLATION"] = before
        try:
            yield rig
        finally:
            await rig.host.close(leave_running=False)
        assert rig.leftovers() == []


async def eventually(look: Any, limit_s: float = 15.0) -> Any:
    """The first truthy answer of `look`, asked again and again."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not (answer := look()):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)
    return answer
