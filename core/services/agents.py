"""Keeps an agent's stream open to every machine that is up, and says when one falls silent or comes back.

One rule: silence is never death. A machine is lost when its agent and its SSH are silent for long, or its provider says
so; a workload goes on meanwhile, and the same agent is taken up again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.domain.errors import AgentMismatch, HostKeyChanged, MachineError, Unreachable
from core.domain.events import Fact, Said
from core.domain.machines import Machine
from core.domain.readings import MachineReading
from core.operations.context import Context
from core.providers.base import Address
from core.store.store import Tx

log = logging.getLogger("understudy.agents")

SILENT_S = 5.0  # five missing reports: the stream is called broken and made anew
LOST_S = 60.0
RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
CUT_OFF_S = 30.0  # a machine that broke the protocol is left alone for so long
FOLLOW_S = 5.0
CONNECTS_AT_ONCE = 64  # a thousand handshakes at once, after a restart, would leave the loop no time for anybody else
_UP = frozenset({"ready", "lost"})


@dataclass
class AgentWatch:
    """One task per machine that is ready or lost; `told` gets every reading."""

    context: Context
    told: Callable[[str, MachineReading], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopped: set[str] = field(default_factory=set)
    _heard_at: dict[str, float] = field(default_factory=dict)
    _doors: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTS_AT_ONCE))

    async def run(self) -> None:
        """Follows the state: a task for each machine that is up, none for the others."""
        bell = asyncio.Event()

        def ring(fact: Fact) -> None:
            if fact.machine is not None:
                bell.set()

        self.context.store.listen(ring)
        try:
            while True:
                self._follow()
                try:
                    await asyncio.wait_for(bell.wait(), FOLLOW_S)
                except TimeoutError:
                    continue
                bell.clear()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _follow(self) -> None:
        for machine_id, task in list(self._tasks.items()):
            if task.done():  # of something it did not foresee: said, and begun again
                del self._tasks[machine_id]
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.error("the agent's watch of %s failed", machine_id, exc_info=error)
        machines = self.context.store.state.machines
        up = {m.id for m in machines.values() if m.state in _UP and m.id not in self._stopped}
        for machine_id in up - set(self._tasks):
            self._tasks[machine_id] = asyncio.create_task(self._watch(machine_id), name=f"agent {machine_id}")
        for machine_id in set(self._tasks) - up:
            self._tasks.pop(machine_id).cancel()

    async def _watch(self, machine_id: str) -> None:
        failures = 0
        self._heard_at[machine_id] = self.context.monotonic()
        while True:
            error: MachineError = Unreachable(f"No report for {SILENT_S:.0f} s.", machine_id=machine_id)
            heard_at = self._heard_at[machine_id]
            try:
                await self._stream(machine_id)
            except HostKeyChanged as e:
                await self._host_key_changed(machine_id, e)
                return
            except MachineError as e:
                error = e
            await self.context.reach.drop(machine_id)
            silent_s = self.context.monotonic() - self._heard_at[machine_id]
            failures = failures + 1 if self._heard_at[machine_id] == heard_at else 0
            cut_off = isinstance(error, AgentMismatch)
            await self._silent(machine_id, error, lost=silent_s > LOST_S and not cut_off)
            await asyncio.sleep(CUT_OFF_S if cut_off else RETRY_S[min(failures, len(RETRY_S) - 1)])

    async def _stream(self, machine_id: str) -> None:
        """Reads until the stream ends or falls silent. Raises MachineError when it breaks."""
        async with self._doors:
            channel = await self.context.reach.agent(machine_id, self._addresses(machine_id))
        readings = aiter(channel.readings())
        first = True
        while True:
            try:
                reading = await asyncio.wait_for(anext(readings), SILENT_S)
            except (StopAsyncIteration, TimeoutError):
                return
            self._heard_at[machine_id] = self.context.monotonic()
            if first:
                await self.context.store.write(lambda tx: _heard(tx, machine_id))
                first = False
            self.told(machine_id, reading)

    def _addresses(self, machine_id: str) -> tuple[Address, ...]:
        machine = self.context.store.state.machines[machine_id]
        view = self.context.accounts.get(machine.provider)
        seen = view.last.machines.get(machine.provider_id or "") if view is not None and view.last else None
        if seen is not None and seen.addresses:
            return seen.addresses
        if machine.address is None or machine.port is None:
            return ()
        return (Address(host=machine.address, port=machine.port, user=machine.user),)

    async def _silent(self, machine_id: str, error: MachineError, *, lost: bool) -> None:
        machine = self.context.store.state.machines.get(machine_id)
        if machine is not None and (machine.agent == "connected" or (lost and machine.state == "ready")):
            await self.context.store.write(lambda tx: _not_heard(tx, machine_id, str(error), lost=lost))

    async def _host_key_changed(self, machine_id: str, error: HostKeyChanged) -> None:
        self._stopped.add(machine_id)
        await self.context.reach.drop(machine_id)

        def say(tx: Tx) -> None:
            machine = tx.state.machines.get(machine_id)
            if machine is not None:
                tx.say(Said(kind="host_key_changed", machine=machine_id, workspace=machine.workspace))
                _lost(tx, machine, f"{error} {error.hint}".rstrip(". "))

        await self.context.store.write(say)


def _heard(tx: Tx, machine_id: str) -> None:
    machine = tx.state.machines.get(machine_id)
    if machine is None or machine.state not in _UP:
        return
    about: dict[str, Any] = {"machine": machine_id, "workspace": machine.workspace}
    if machine.agent != "connected":
        tx.say(
            Said(kind="agent_connected", detail={"agent": "connected", "agent_since": tx.now, "reason": None}, **about)
        )
    if machine.state == "lost":
        tx.say(Said(kind="machine_returned", **about))
        workspace = tx.state.workspaces.get(machine.workspace or "")
        if workspace is not None and workspace.state == "suspect" and workspace.primary == machine_id:
            tx.say(Said(kind="workspace_returned", **about))


def _not_heard(tx: Tx, machine_id: str, reason: str, *, lost: bool) -> None:
    machine = tx.state.machines.get(machine_id)
    if machine is None or machine.state not in _UP:
        return
    if machine.agent == "connected":
        detail = {"agent": "lost", "agent_since": tx.now, "reason": reason}
        tx.say(Said(kind="agent_lost", machine=machine_id, workspace=machine.workspace, detail=detail))
    if lost:
        _lost(tx, machine, f"silent for {LOST_S:.0f} s: {reason}")


def _lost(tx: Tx, machine: Machine, reason: str) -> None:
    if machine.state != "ready":
        return
    about: dict[str, Any] = {"machine": machine.id, "workspace": machine.workspace}
    tx.say(Said(kind="machine_lost", detail={"reason": reason}, **about))
    workspace = tx.state.workspaces.get(machine.workspace or "")
    if workspace is not None and workspace.state == "running" and workspace.primary == machine.id:
        tx.say(Said(kind="workspace_lost", detail={"reason": reason}, **about))
