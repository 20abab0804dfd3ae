"""A real SSH server on loopback whose commands are real processes; every test is guarded against blocking calls."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from core.remote.ssh import Address, Connection, connect, make_identity


@pytest.fixture(autouse=True)
def _guarded(never_blocks: object) -> None:
    """Asks for the guard."""


@dataclass
class Machine:
    """One server: its home directory and what it saw."""

    home: Path
    authorized: str
    host_key: asyncssh.SSHKey
    port: int = 0
    commands: list[str] = field(default_factory=list)
    logins: int = 0
    server: asyncssh.SSHAcceptor | None = None
    children: list[asyncio.subprocess.Process] = field(default_factory=list)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    instead: dict[str, str] = field(default_factory=dict)  # what a hostile machine runs for commands with these words
    env: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port, "root")

    async def start(self, port: int = 0) -> None:
        machine = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                machine.connections.append(conn)

            def auth_completed(self) -> None:
                machine.logins += 1

        self.server = await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Server,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.authorized),
            process_factory=self._session,
            sftp_factory=True,
            encoding=None,
            line_editor=False,
        )
        self.port = self.server.get_port()

    async def _session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.commands.append(command)
        command = next((other for words, other in self.instead.items() if words in command), command)
        env = {**os.environ, "HOME": str(self.home), "WORKSPACE": str(self.home / "workspace"), **self.env}
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", command, env=env, cwd=self.home, stdin=-1, stdout=-1, stderr=-1, start_new_session=True
        )
        self.children.append(child)
        assert child.stdin
        assert child.stdout
        assert child.stderr
        gone = asyncio.create_task(process.channel.wait_closed())
        feeding = asyncio.create_task(_feed(process, child.stdin))
        streams = ((child.stdout, process.stdout), (child.stderr, process.stderr))
        pumps = [asyncio.create_task(_pump(source, sink)) for source, sink in streams]
        try:
            both = asyncio.gather(*pumps, return_exceptions=True)
            await asyncio.wait({both, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                process.exit(await child.wait())
        except (asyncssh.Error, ConnectionError):
            return
        finally:
            for task in (*pumps, gone, feeding):
                task.cancel()
            await asyncio.gather(*pumps, gone, feeding, return_exceptions=True)
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
            await child.communicate()

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        for connection in self.connections:
            connection.abort()
            await connection.wait_closed()
        if self.server is not None:
            await self.server.wait_closed()  # since Python 3.12 it waits for the connections too
        for child in self.children:
            await child.wait()
        end_daemon(self.home)


def end_daemon(home: Path) -> None:
    """Ends an agent's daemon that a test left, with its parent: they are a process group of their own."""
    lock = home / ".understudy" / "agent.lock"
    text = lock.read_text() if lock.exists() else ""
    try:
        if text.isdigit():
            os.killpg(os.getpgid(int(text)), signal.SIGKILL)
    except ProcessLookupError:
        return


async def _pump(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()


async def _feed(process: asyncssh.SSHServerProcess[bytes], sink: asyncio.StreamWriter) -> None:
    try:
        while data := await process.stdin.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except (ConnectionError, asyncssh.Error):
        return
    finally:
        sink.close()


@dataclass
class Rig:
    """Our side: an identity, a known_hosts file, machines."""

    folder: Path
    identity: Path
    known_hosts: Path
    public: str
    machines: list[Machine] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    async def machine(self, name: str = "m", authorized: str | None = None) -> Machine:
        home = self.folder / name
        (home / "workspace").mkdir(parents=True, exist_ok=True)
        machine = Machine(home, authorized or self.public, asyncssh.generate_private_key("ssh-ed25519"))
        await machine.start()
        self.machines.append(machine)
        return machine

    async def connect(self, *machines: Machine, machine_id: str = "m1", timeout_s: float = 10.0) -> Connection:
        connection = await connect(
            machine_id,
            [machine.address for machine in machines],
            identity=self.identity,
            known_hosts=self.known_hosts,
            timeout_s=timeout_s,
        )
        self.connections.append(connection)
        return connection


@asynccontextmanager
async def _rig(folder: Path) -> AsyncIterator[Rig]:
    identity = folder / "ssh" / "id_ed25519"
    rig = Rig(folder, identity, folder / "ssh" / "known_hosts", await make_identity(identity))
    try:
        yield rig
    finally:
        for connection in rig.connections:
            await connection.close()
        for machine in rig.machines:
            await machine.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with _rig(tmp_path) as running:
        yield running


Waiter = Callable[[Callable[[], bool]], Coroutine[Any, Any, None]]


@pytest.fixture
def until() -> Waiter:
    """Waits until something is so; pytest's own time limit ends it when it never is."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.02)

    return wait
