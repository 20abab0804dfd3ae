"""How fast we can push bytes to a machine. One rule: bounded in bytes and in seconds, whatever it does."""

from __future__ import annotations

import asyncio
import os

import asyncssh

from core.domain.errors import CommandFailed
from core.remote.ssh import Connection, translated

CHUNK_BYTES = 256 * 1024


async def measure_upload(connection: Connection, nbytes: int = 8 * 1024 * 1024, *, max_s: float = 10.0) -> float:
    """Bytes per second that arrive at the machine (random ones: nothing on the way can compress them).

    The slower of our uplink and its downlink: a low figure accuses neither, a high one clears both. After `max_s` it
    ends with what had been sent. Raises Unreachable, or CommandFailed when the machine cannot take them.
    """
    chunk = await asyncio.to_thread(os.urandom, CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    process = await connection.open_process(f"head -c {int(nbytes)} >/dev/null && echo taken")
    sent = 0
    began = loop.time()
    try:
        with translated(connection.machine_id):
            try:
                async with asyncio.timeout(max_s):
                    while sent < nbytes:
                        process.stdin.write(chunk[: nbytes - sent])
                        await process.stdin.drain()
                        sent = min(nbytes, sent + CHUNK_BYTES)
                    await _taken(connection, process)
            except TimeoutError:
                if sent == 0:
                    raise
    finally:
        process.close()
    return sent / max(1e-6, loop.time() - began)


async def _taken(connection: Connection, process: asyncssh.SSHClientProcess[bytes]) -> None:
    if (await process.stdout.read(64)).strip() != b"taken":
        raise CommandFailed(
            f"{connection.machine_id} did not take the bytes of the speed test.",
            machine_id=connection.machine_id,
            argv="head",
            exit_status=1,
            stderr_tail="",
        )
