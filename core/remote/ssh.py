"""One SSH connection per machine. Its one rule: nothing is sent to a machine whose host key is not the one first seen.

Every option is explicit: the operator's ssh_config, agent and passwords are never used. What asyncssh and the sockets
raise is mapped here, once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import asyncssh

from core.domain.errors import CommandFailed, ConfigError, HostKeyChanged, Unreachable
from core.domain.units import clean
from core.remote import host_keys

CONNECT_TIMEOUT_S = 15.0
KEEPALIVE_S = 5.0
KEEPALIVE_MISSES = 3  # asyncssh gives up after KEEPALIVE_S * (KEEPALIVE_MISSES + 1)
MAX_OUTPUT_BYTES = 1024 * 1024
STDERR_TAIL = 400

# aes128-gcm moves 139-155 MB/s where asyncssh's default chacha20 moves 37-51 (measured on 2 cores); the rest is for
# servers that do not have it.
ENCRYPTION = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
]


class Address(NamedTuple):
    host: str
    port: int
    user: str = "root"


@dataclass(frozen=True)
class Completed:
    """A command that ended: `exit_status` is negative when a signal ended it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Connection:
    """An open connection. Made by `connect`; every method raises MachineError leaves only."""

    def __init__(self, machine_id: str, address: Address, host_key: str, ssh: asyncssh.SSHClientConnection) -> None:
        self.machine_id = machine_id
        self.address = address
        self.host_key = host_key
        self._ssh = ssh

    async def run(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float = 30.0,
        max_output: int = MAX_OUTPUT_BYTES,
        stdin: bytes = b"",
        check: bool = True,
    ) -> Completed:
        """Runs an argument list, or shell text, to its end.

        Raises CommandFailed when it fails (unless `check` is False), prints more than `max_output` bytes or is not
        done in time, and Unreachable when the connection is gone.
        """
        shown = command if isinstance(command, str) else shlex.join(command)
        with translated(self.machine_id):
            process = await self.open_process(shown)
            try:
                async with asyncio.timeout(timeout_s):
                    done = await _finish(process, stdin, max_output)
            except TimeoutError:
                raise self._failed(shown, f"did not end within {timeout_s:g} s", -1, b"") from None
            finally:
                process.close()
        if done is None:
            raise self._failed(shown, f"printed more than {max_output} bytes", -1, b"")
        if check and done.exit_status != 0:
            raise self._failed(shown, f"ended with status {done.exit_status}", done.exit_status, done.stderr)
        return done

    async def open_process(self, command: str) -> asyncssh.SSHClientProcess[bytes]:
        """A running command whose streams are bytes; its caller closes it."""
        with translated(self.machine_id):
            return await self._ssh.create_process(command, encoding=None, request_pty=False)

    async def open_sftp(self) -> asyncssh.SFTPClient:
        with translated(self.machine_id):
            return await self._ssh.start_sftp_client()

    @property
    def fingerprint(self) -> str:
        """The host key as OpenSSH prints it: `SHA256:` and the base64 digest without padding."""
        digest = hashlib.sha256(base64.b64decode(self.host_key.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def is_open(self) -> bool:
        return not self._ssh.is_closed()

    async def closed(self) -> None:
        """Returns when the connection has ended, for whatever reason; a silent machine is noticed by the keepalive."""
        await self._ssh.wait_closed()

    async def close(self) -> None:
        """Ends the connection at once. Idempotent."""
        self._ssh.abort()
        await self._ssh.wait_closed()

    def _failed(self, command: str, what: str, status: int, stderr: bytes) -> CommandFailed:
        tail = clean(stderr[-STDERR_TAIL * 2 :].decode("utf-8", "replace"), STDERR_TAIL)
        return CommandFailed(
            f"'{clean(command, 80)}' on {self.machine_id} {what}{': ' + tail if tail else ''}.",
            machine_id=self.machine_id,
            argv=clean(command, 200),
            exit_status=status,
            stderr_tail=tail,
        )


async def connect(
    machine_id: str,
    addresses: Sequence[Address],
    *,
    identity: Path,
    known_hosts: Path,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Connection:
    """The first address that answers, each within `timeout_s`; the host key is pinned at first use.

    Raises Unreachable when none does, HostKeyChanged at the first one that shows another key than the pinned one.
    """
    key = await _read_identity(identity)
    pinned = await asyncio.to_thread(host_keys.pinned, known_hosts, machine_id)
    last: Unreachable | None = None
    for address in addresses:
        try:
            ssh, shown = await _open(machine_id, address, key, pinned, timeout_s)
        except Unreachable as error:
            last = error
            continue
        if pinned is None:
            winner = await asyncio.to_thread(host_keys.pin, known_hosts, machine_id, shown)
            if winner != shown:
                ssh.abort()
                await ssh.wait_closed()
                raise _changed(machine_id, address)
        return Connection(machine_id, address, shown, ssh)
    if last is not None:
        raise last
    raise Unreachable(f"{machine_id} has no SSH address yet.", machine_id=machine_id)


class _Client(asyncssh.SSHClient):
    """Accepts the pinned key, or any key when none is pinned, and remembers what it saw."""

    def __init__(self, pinned: str | None) -> None:
        self.pinned = pinned
        self.shown: str | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        del host, addr, port
        self.shown = host_keys.line_of(key)
        return self.pinned is None or self.shown == self.pinned


async def _open(
    machine_id: str, address: Address, key: asyncssh.SSHKey, pinned: str | None, timeout_s: float
) -> tuple[asyncssh.SSHClientConnection, str]:
    client = _Client(pinned)
    try:
        with translated(machine_id, address):
            async with asyncio.timeout(timeout_s):
                ssh, _ = await asyncssh.create_connection(
                    lambda: client,
                    address.host,
                    address.port,
                    username=address.user,
                    client_keys=[key],
                    known_hosts=([], [], []),
                    config=None,
                    agent_path=None,
                    agent_forwarding=False,
                    password=None,
                    client_host_keys=None,
                    gss_host=None,
                    x509_trusted_certs=None,
                    preferred_auth=["publickey"],
                    server_host_key_algs=host_keys.algorithms(pinned),
                    encryption_algs=ENCRYPTION,
                    compression_algs=None,
                    keepalive_interval=KEEPALIVE_S,
                    keepalive_count_max=KEEPALIVE_MISSES,
                    login_timeout=timeout_s,
                    connect_timeout=timeout_s,
                )
    except Unreachable as error:
        if pinned is not None and client.shown is not None and client.shown != pinned:
            raise _changed(machine_id, address) from error
        raise
    if client.shown is None:
        ssh.abort()
        raise Unreachable(f"{machine_id} showed no host key.", machine_id=machine_id)
    return ssh, client.shown


def _changed(machine_id: str, address: Address) -> HostKeyChanged:
    return HostKeyChanged(
        f"Another machine answers at {clean(address.host, 80)}:{address.port}: not with {machine_id}'s host key.",
        machine_id=machine_id,
        hint="Nothing was sent to it. Destroy the machine and rent another one.",
    )


async def _finish(process: asyncssh.SSHClientProcess[bytes], stdin: bytes, max_output: int) -> Completed | None:
    """The ended command; None when it printed too much."""

    async def feed() -> None:
        try:
            process.stdin.write(stdin)
            await process.stdin.drain()
            process.stdin.write_eof()
        except (BrokenPipeError, ConnectionError):
            return  # it ended without reading all of it, which is its right

    async def collect(reader: asyncssh.SSHReader[bytes]) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while part := await reader.read(1 << 16):
            size += len(part)
            if size > max_output:
                return None
            parts.append(part)
        return b"".join(parts)

    tasks = [asyncio.create_task(each) for each in (collect(process.stdout), collect(process.stderr))]
    feeding = asyncio.create_task(feed())
    try:
        for next_done in asyncio.as_completed(tasks):
            if await next_done is None:
                return None
        await feeding
    finally:
        for task in (*tasks, feeding):
            task.cancel()
        await asyncio.gather(*tasks, feeding, return_exceptions=True)
    stdout, stderr = (task.result() or b"" for task in tasks)
    await process.wait_closed()
    if process.returncode is None:
        raise asyncssh.ConnectionLost("the connection ended before the command did")
    return Completed(process.returncode, stdout, stderr)


@contextmanager
def translated(machine_id: str, address: Address | None = None) -> Iterator[None]:
    """Turns what asyncssh and the sockets raise into Unreachable: the one place where that is done."""
    where = machine_id if address is None else f"{machine_id} at {clean(address.host, 80)}:{address.port}"
    try:
        yield
    except asyncssh.PermissionDenied as error:
        raise Unreachable(
            f"{where} does not accept our SSH key.",
            machine_id=machine_id,
            hint="The provider hands keys to new machines only; retire this one if it stays so.",
        ) from error
    except TimeoutError as error:
        raise Unreachable(f"{where} does not answer by SSH in time.", machine_id=machine_id) from error
    except (asyncssh.Error, ConnectionError) as error:
        said = clean(getattr(error, "reason", "") or str(error), 160).rstrip(".")
        raise Unreachable(f"SSH to {where} failed: {said or type(error).__name__}.", machine_id=machine_id) from error
    except OSError as error:
        said = clean(error.strerror or str(error), 160)
        raise Unreachable(f"{where} cannot be reached by SSH: {said}.", machine_id=machine_id) from error


async def make_identity(path: Path) -> str:
    """Our own key's public line; makes an ed25519 key (0600, its directory 0700) when there is none. Idempotent.

    Raises ConfigError when a file is there that is no such key.
    """
    return await asyncio.to_thread(_make_identity, path)


def _make_identity(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment="understudy")
        host_keys.write_once(path, key.export_private_key("openssh"))
    public = _load(path).convert_to_public().export_public_key("openssh").decode().strip()
    host_keys.write_once(path.with_name(path.name + ".pub"), (public + "\n").encode())
    return public


def _load(path: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigError(
            f"The SSH key {path} cannot be read: {clean(str(error), 120)}.",
            hint="Move it away; a new one is made, which reaches machines rented from then on.",
        ) from error


async def _read_identity(path: Path) -> asyncssh.SSHKey:
    return await asyncio.to_thread(_load, path)
