"""Reaching machines: one SSH connection and one agent channel each, shared by operations and watchers.

One rule: a host key that changed stops everything on that machine; nothing is sent to it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from core.domain.errors import Unreachable
from core.providers.base import Address
from core.remote import host_keys
from core.remote.agent_client import AgentChannel, AgentOrders
from core.remote.ssh import Address as SshAddress
from core.remote.ssh import Connection, connect


class Reach:
    """Connections by machine id. `clock` is the engine's, for the time of receipt of readings."""

    def __init__(self, *, identity: Path, known_hosts: Path, clock: Callable[[], float]) -> None:
        self.identity = identity
        self.known_hosts = known_hosts
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self._channels: dict[str, AgentChannel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._forgetting: set[asyncio.Future[None]] = set()

    async def connection(self, machine_id: str, addresses: Sequence[Address], *, timeout_s: float = 20.0) -> Connection:
        """The machine's connection, made when there is none. Raises Unreachable or HostKeyChanged."""
        async with self._locks.setdefault(machine_id, asyncio.Lock()):
            have = self._connections.get(machine_id)
            if have is not None and have.is_open:
                return have
            if not addresses:
                raise Unreachable("It has no address yet.", machine_id=machine_id)
            targets = [SshAddress(a.host, a.port, a.user) for a in addresses]
            made = await connect(
                machine_id,
                targets,
                identity=self.identity,
                known_hosts=self.known_hosts,
                timeout_s=timeout_s,
            )
            self._connections[machine_id] = made
            return made

    async def agent(self, machine_id: str, addresses: Sequence[Address], *, timeout_s: float = 30.0) -> AgentChannel:
        """The machine's agent, started or re-adopted. Raises MachineError leaves."""
        connection = await self.connection(machine_id, addresses, timeout_s=timeout_s)
        async with self._locks[machine_id]:
            have = self._channels.get(machine_id)
            if have is not None and have.is_open:
                return have
            made = await AgentChannel.open(connection, hello=AgentOrders(), clock=self._clock, timeout_s=timeout_s)
            self._channels[machine_id] = made
            return made

    def channel(self, machine_id: str) -> AgentChannel | None:
        have = self._channels.get(machine_id)
        return have if have is not None and have.is_open else None

    async def drop(self, machine_id: str) -> None:
        """Closes what is open to the machine. Its agent and its work go on."""
        channel, connection = self._channels.pop(machine_id, None), self._connections.pop(machine_id, None)
        if channel is not None:
            await channel.close()
        if connection is not None:
            await connection.close()

    def forget(self, machine_id: str) -> None:
        """A destroyed machine's pinned key goes; in a thread, for it is a file."""
        task = asyncio.get_running_loop().run_in_executor(None, host_keys.forget, self.known_hosts, machine_id)
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def close(self) -> None:
        for machine_id in list(self._connections):
            await self.drop(machine_id)
