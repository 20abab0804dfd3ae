"""Arriving: the steps from an accepted machine to a ready one, shared by `rent` and `adopt`.

One rule: a machine is not called ready because it says so; it is reached, measured and compared with its offer.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial

from core.domain.errors import HostKeyChanged, MachineError, ProviderError
from core.domain.events import Said
from core.domain.machines import Machine
from core.operations.codec import durable
from core.operations.context import ctx
from core.operations.judge import Advertised, Uplink, verdict
from core.operations.timeline import Outcome, step
from core.providers.base import ProviderMachine
from core.store.store import Tx

UPLINK_SETTING = "uplink_mbit_per_s"
SSH_RETRY_S = 0.3
SSH_RETRY_MAX_S = 3.0
SSH_TRY_S = 15.0
_CANCELLED = Outcome(ok=False, final=True, detail="It was cancelled.")


def _wanted(machine_id: str) -> Machine | None:
    """The machine while it is still to become ready; None once somebody condemned it."""
    machine = ctx().store.state.machines.get(machine_id)
    return machine if machine is not None and machine.state in ("booting", "checking", "ready") else None


@step("boot")
async def boot(machine_id: str) -> Outcome:
    """Waits until the provider says that it runs and where. A stuck or dead boot is a reason, never a wait for ever."""
    context = ctx()
    machine = _wanted(machine_id)
    if machine is None or machine.provider_id is None:
        return _CANCELLED
    began = machine.state_since  # accepted, or started again: a machine rented long ago boots anew
    deadline = began + context.rules.boot_timeout_s
    provider = context.providers[machine.provider]
    said = "nothing"
    while _wanted(machine_id) is not None:
        left = deadline - context.clock()
        if left <= 0:
            return Outcome(
                ok=False, detail=f"did not boot within {context.rules.boot_timeout_s:.0f} s; last word: {said}"
            )
        try:
            listing = await asyncio.wait_for(context.accounts[machine.provider].next(), left)
        except TimeoutError:
            continue
        seen = listing.machines.get(machine.provider_id)
        said = (seen.status_text or seen.state) if seen else "not in the account's listing"
        if seen is not None and seen.state == "dead":
            return Outcome(ok=False, detail=f"its host failed to start it: {said}")
        if seen is None and listing.whole and context.clock() - (machine.rented_at or 0) > provider.absence_grace_s:
            return Outcome(ok=False, detail="it vanished from the account while booting")
        if seen is not None and seen.state == "running" and seen.addresses:
            await context.store.write(partial(_addressed, machine_id=machine_id, seen=seen))
            return Outcome(ok=True, detail=f"running after {context.clock() - began:.1f} s")
        if context.rules.poll_s:
            await asyncio.sleep(context.rules.poll_s)
    return _CANCELLED


def _addressed(tx: Tx, machine_id: str, seen: ProviderMachine) -> None:
    best = seen.addresses[0]
    detail = {"address": best.host, "port": best.port, "user": best.user, "provider_state": seen.state}
    machine = tx.state.machines.get(machine_id)
    if machine is not None and (machine.address, machine.port) != (best.host, best.port):
        tx.say(Said(kind="machine_addressed", machine=machine_id, workspace=machine.workspace, detail=detail))


@step("reach it by SSH")
async def ssh(machine_id: str) -> Outcome:
    context = ctx()
    deadline = context.monotonic() + context.rules.ssh_timeout_s
    wait, last = SSH_RETRY_S, "no answer"
    while (machine := _wanted(machine_id)) is not None:
        seen = _listed(machine)
        try:
            connection = await context.reach.connection(
                machine_id, seen.addresses if seen else (), timeout_s=min(SSH_TRY_S, context.rules.ssh_timeout_s)
            )
        except HostKeyChanged as e:
            await context.store.say(Said(kind="host_key_changed", machine=machine_id, workspace=machine.workspace))
            return Outcome(ok=False, detail=str(e))
        except MachineError as e:
            last = str(e)
        else:
            await context.store.write(partial(_reached, machine_id=machine_id, fingerprint=connection.fingerprint))
            return Outcome(ok=True, detail=connection.fingerprint)
        if context.monotonic() > deadline:
            return Outcome(ok=False, detail=f"no SSH within {context.rules.ssh_timeout_s:.0f} s: {last}")
        await asyncio.sleep(wait)
        wait = min(SSH_RETRY_MAX_S, wait * 1.5)
    return _CANCELLED


def _listed(machine: Machine) -> ProviderMachine | None:
    view = ctx().accounts[machine.provider].last
    return None if view is None or machine.provider_id is None else view.machines.get(machine.provider_id)


def _reached(tx: Tx, machine_id: str, fingerprint: str) -> None:
    machine = tx.state.machines.get(machine_id)
    if machine is None or machine.state not in ("booting", "checking"):
        return
    if machine.host_key != fingerprint:
        detail = {"fingerprint": fingerprint, "host_key": fingerprint}
        tx.say(Said(kind="host_key_pinned", machine=machine_id, workspace=machine.workspace, detail=detail))
    if machine.state != "checking":
        tx.say(Said(kind="machine_checking", machine=machine_id, workspace=machine.workspace))


@step("start the agent")
async def agent(machine_id: str) -> Outcome:
    machine = _wanted(machine_id)
    if machine is None:
        return _CANCELLED
    seen = _listed(machine)
    try:
        channel = await ctx().reach.agent(machine_id, seen.addresses if seen else (), timeout_s=60.0)
    except MachineError as e:
        return Outcome(ok=False, detail=f"its agent does not run: {e}")
    return Outcome(
        ok=True,
        detail=f"Python {channel.hello.python}, {channel.hello.isolation or 'no isolation'}",
    )


@durable
class Checked(Outcome, frozen=True, kw_only=True):
    workspace_dir: str = ""
    driver_version: str | None = None


@step("check it against its offer")
async def check(machine_id: str) -> Checked:
    machine = _wanted(machine_id)
    if machine is None:
        return Checked(ok=False, final=True, detail=_CANCELLED.detail)
    context = ctx()
    seen = _listed(machine)
    try:
        channel = await context.reach.agent(machine_id, seen.addresses if seen else ())
        connection = await context.reach.connection(machine_id, seen.addresses if seen else ())
        advertised = _advertised(machine, seen)
        uplink = Uplink(math.inf) if machine.simulated else context.uplink
        known = uplink.mbps
        reason, detail = await verdict(channel, connection, advertised, context.rules, uplink)
        if uplink is context.uplink and uplink.mbps != known:
            await context.store.remember(UPLINK_SETTING, str(uplink.mbps))
    except MachineError as e:
        return Checked(ok=False, detail=f"it was lost while being checked: {e}")
    if reason is not None:
        return Checked(ok=False, detail=reason)
    await context.store.write(lambda tx: _checked(tx, machine_id, channel.hello.workspace))
    return Checked(ok=True, detail=detail, workspace_dir=channel.hello.workspace)


def _advertised(machine: Machine, seen: ProviderMachine | None) -> Advertised:
    return Advertised(
        gpu=machine.gpu,
        gpu_count=machine.gpu_count,
        vram_mib=machine.vram_mib,
        driver_version=seen.driver_version if seen else machine.driver_version,
        cuda_max=seen.cuda_max if seen else None,
        disk_gb=machine.disk_gb,
        disk_mbps=seen.disk_mbps if seen else None,
        inet_down_mbps=seen.inet_down_mbps if seen else None,
    )


def _checked(tx: Tx, machine_id: str, workspace_dir: str) -> None:
    machine = tx.state.machines.get(machine_id)
    if machine is not None:
        detail = {"workspace_dir": workspace_dir}
        tx.say(Said(kind="machine_addressed", machine=machine_id, workspace=machine.workspace, detail=detail))


@step("ready")
async def ready(machine_id: str, workspace: str) -> Outcome:
    """Hands over the deadline, then says ready: a machine with an end must be able to end itself first."""
    context = ctx()
    machine = _wanted(machine_id)
    if machine is None:
        return _CANCELLED
    if machine.expires_at is not None:
        armed = await _arm(machine)
        if not armed.ok:
            return armed

    def say(tx: Tx) -> Outcome:
        current = tx.state.machines.get(machine_id)
        if current is None or current.state not in ("checking", "booting", "ready"):
            return _CANCELLED
        if current.state != "ready" and current.ready_at is not None:
            tx.say(Said(kind="machine_returned", machine=machine_id, workspace=workspace))  # it was stopped: no boot
        elif current.state != "ready":
            tx.say(Said(kind="machine_ready", machine=machine_id, workspace=workspace, detail={"ready_at": tx.now}))
        known = tx.state.workspaces.get(workspace)
        if known is not None and known.state == "renting":
            operation = known.operation
            tx.say(Said(kind="workspace_ready", machine=machine_id, workspace=workspace, operation=operation))
        return Outcome(ok=True, detail=f"{tx.now - (current.rented_at or tx.now):.1f} s after it was accepted")

    return await context.store.write(say)


async def _arm(machine: Machine) -> Outcome:
    """Gives the machine its own end: the instance's own key and the provider's call, good for this machine only."""
    context = ctx()
    row = await context.store.write(lambda tx: tx.ledger.of_machine(machine.id))
    if row is None or row.own_key is None or machine.provider_id is None or machine.expires_at is None:
        return Outcome(ok=True, detail="the provider gave no key of its own: only the engine can end it in time")
    method, url = context.providers[machine.provider].self_destruct(machine.provider_id)
    seen = _listed(machine)
    try:
        channel = await context.reach.agent(machine.id, seen.addresses if seen else ())
        await channel.set_deadline(max(1.0, machine.expires_at - context.clock()), method, url, row.own_key)
    except (MachineError, ProviderError) as e:
        return Outcome(ok=False, detail=f"its end could not be handed over: {e}")
    return Outcome(ok=True)


@step("see what it is")
async def note(machine_id: str) -> Outcome:
    """For a machine that nobody offered us: nothing to compare with, but where its workspace is must be known."""
    machine = _wanted(machine_id)
    if machine is None:
        return _CANCELLED
    channel = ctx().reach.channel(machine_id)
    if channel is None:
        return Outcome(ok=False, detail="its agent went away")
    hello = channel.hello
    await ctx().store.write(lambda tx: _checked(tx, machine_id, hello.workspace))
    return Outcome(ok=True, detail=f"{len(hello.gpus)}x {hello.gpus[0].name}" if hello.gpus else "no GPU")


@step("leave it as it is")
async def stranded(machine_id: str, workspace: str, why: str) -> Outcome:
    """For a machine that exists and could not be reached: it stays ours, and the watcher goes on trying."""

    def work(tx: Tx) -> None:
        machine = tx.state.machines.get(machine_id)
        if machine is not None and machine.state in ("booting", "checking"):
            tx.say(Said(kind="machine_lost", machine=machine_id, workspace=workspace, detail={"reason": why}))
        known = tx.state.workspaces.get(workspace)
        if known is not None and known.state == "renting":
            tx.say(Said(kind="workspace_failed", workspace=workspace, detail={"reason": why}))

    await ctx().store.write(work)
    return Outcome(ok=False, final=True, detail=why)
