"""Files to and from a machine by SFTP. Its one rule: a file appears whole or not at all, at both ends."""

from __future__ import annotations

import asyncio
import os
import posixpath
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import asyncssh

from core.domain.errors import CommandFailed, MachineError
from core.domain.units import clean
from core.remote.ssh import Connection, translated

CHUNK_BYTES = 1024 * 1024
MAX_GET_BYTES = 64 * 1024 * 1024


async def put_bytes(connection: Connection, path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Writes `data` beside `path` and renames it there; makes missing directories. Idempotent."""

    async def whole() -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    await _put(connection, path, whole(), mode)


async def put_file(connection: Connection, local: Path, path: str, *, mode: int = 0o600) -> None:
    """As `put_bytes`, from a local file of any size. Raises OSError for what is wrong with the local file."""
    file = await asyncio.to_thread(local.open, "rb")
    try:

        async def whole() -> AsyncIterator[bytes]:
            while part := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield part

        await _put(connection, path, whole(), mode)
    finally:
        await asyncio.to_thread(file.close)


async def get_bytes(connection: Connection, path: str, *, limit: int = MAX_GET_BYTES) -> bytes:
    """A whole remote file. Raises CommandFailed when it is missing, unreadable or larger than `limit` bytes."""
    async with _sftp(connection) as sftp:
        with _about(connection, path):
            parts = [part async for part in _read(connection, sftp, path, limit)]
    return b"".join(parts)


async def get_file(connection: Connection, path: str, local: Path, *, limit: int, mode: int = 0o600) -> int:
    """Fetches into `local` (whole or not at all) and returns its size in bytes. Raises as `get_bytes`."""
    fresh = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
    handle = await asyncio.to_thread(os.open, fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    size = 0
    try:
        async with _sftp(connection) as sftp:
            with _about(connection, path):
                async for part in _read(connection, sftp, path, limit):
                    await asyncio.to_thread(os.write, handle, part)
                    size += len(part)
        await asyncio.to_thread(os.fsync, handle)
        await asyncio.to_thread(fresh.replace, local)
    finally:
        await asyncio.to_thread(os.close, handle)
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
    return size


async def _put(connection: Connection, path: str, parts: AsyncIterator[bytes], mode: int) -> None:
    fresh = f"{path}.{secrets.token_hex(4)}.new"
    async with _sftp(connection) as sftp:
        with _about(connection, path):
            folder = posixpath.dirname(path)
            if folder:
                await sftp.makedirs(folder, exist_ok=True)
            try:
                async with sftp.open(fresh, "wb", asyncssh.SFTPAttrs(permissions=mode)) as file:
                    async for part in parts:
                        await file.write(part)
                await sftp.chmod(fresh, mode)
                await _rename(sftp, fresh, path)
            except BaseException:
                await _remove(sftp, fresh)
                raise


async def _rename(sftp: asyncssh.SFTPClient, fresh: str, path: str) -> None:
    """Over what is there; a server without the POSIX extension must remove that first."""
    try:
        await sftp.posix_rename(fresh, path)
    except asyncssh.SFTPOpUnsupported:
        await _remove(sftp, path)
        await sftp.rename(fresh, path)


async def _remove(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Removes a file if it is there and the connection still is."""
    try:
        await sftp.remove(path)
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
        return


async def _read(connection: Connection, sftp: asyncssh.SFTPClient, path: str, limit: int) -> AsyncIterator[bytes]:
    """The file in parts; its size is counted, not asked for: it may grow, or its server may lie."""
    size = 0
    async with sftp.open(path, "rb", encoding=None) as file:
        while part := cast(bytes, await file.read(CHUNK_BYTES)):
            size += len(part)
            if size > limit:
                raise _failed(connection, path, f"is larger than {limit} bytes")
            yield part


@asynccontextmanager
async def _sftp(connection: Connection) -> AsyncIterator[asyncssh.SFTPClient]:
    sftp = await connection.open_sftp()
    try:
        yield sftp
    finally:
        sftp.exit()


@contextmanager
def _about(connection: Connection, path: str) -> Iterator[None]:
    """A lost connection is Unreachable; anything else that SFTP says is about this file."""
    with translated(connection.machine_id):
        try:
            yield
        except MachineError:
            raise
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
            raise
        except asyncssh.SFTPError as error:
            raise _failed(connection, path, clean(error.reason, 160) or "cannot be used") from error


def _failed(connection: Connection, path: str, what: str) -> CommandFailed:
    return CommandFailed(
        f"{clean(path, 120)} on {connection.machine_id}: {what}.",
        machine_id=connection.machine_id,
        argv="sftp",
        exit_status=1,
        stderr_tail=what,
    )
