"""Faults of one machine.

Its one rule: they happen to its real processes, its real network, its real disk, or not at all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from core.lab.hostile import HOSTILE_TEXT
from core.lab.machines import Machines
from core.lab.refusal import FaultRefused
from core.lab.state import Contract, FaultRecord
from core.lab.world import World

if TYPE_CHECKING:
    from core.lab.host import Host

_log = logging.getLogger(__name__)
MACHINE_FAULTS: dict[str, str] = {
    "kill": "the container dies at once, connections are reset (option power_off: the host loses power, silence)",
    "hang": "everything in the machine freezes; connects succeed and nobody answers",
    "drop": "packets are lost in both directions, connects time out",
    "reset": "connections are reset, new ones refused",
    "link-down": "the machine's link is down, as drop",
    "latency": "every byte comes option latency_s (0.2) later, each way",
    "bandwidth": "each connection is held to option bytes_per_s (200000)",
    "gpu-mismatch": "nvidia-smi reports a driver/library version mismatch",
    "gpu-lost": "the GPU has fallen off the bus",
    "heal": "undoes every fault of the machine, of the provider, or (aimed at nothing) of all; what died boots again",
    "service-hang": "what runs on the GPUs is stopped with SIGSTOP (option match: processes by command line)",
    "service-kill": "what runs on the GPUs is killed (option match: processes by command line)",
    "preempt": "the market takes it after option notice_s (30) seconds; Vast itself gives no notice",
    "preempt-silent": "the market takes it at once and the network falls silent",
    "outbid": "somebody bids more for its GPUs; it pauses until the floor falls or the bid rises",
    "wrong-host-key": "another host key answers at the same address",
    "flood": "its agent channel sends endless bytes (option needle: commands that contain it, agent)",
    "slow-disk": "writes are held to option bytes_per_s (1000000)",
    "disk-full": "writes fail with ENOSPC",
}
# nothing remains to be undone
ONCE = frozenset({"kill", "heal", "service-kill", "preempt", "preempt-silent"})
_NEED_NO_PROCESS = frozenset({"kill", "preempt", "preempt-silent", "outbid", "heal"})
_SEVERED = frozenset({"drop", "reset", "link-down"})
# the provider does not hear the host either
SILENT = frozenset({"drop", "link-down"})
NETWORK_FAULTS = _SEVERED | {"latency", "bandwidth"}
# a host that lies about its network moves a hundredth of what it advertises
LIAR_NETWORK_SHARE = 0.01
_GPU = {"gpu-mismatch": "mismatch", "gpu-lost": "lost"}
OUTBID_FACTOR = 1.3
SCRIPT_TIMEOUT_S = 10.0
# $1 = signal, $2 = pattern or empty: what holds GPU memory, or what matches
_SIGNAL_WORKLOAD = (
    'if [ -n "$2" ]; then pids=$(pgrep -f -- "$2" | grep -vx $$); else'
    " pids=$(nvidia-smi --query-compute-apps=pid --format=csv,noheader,nounits); fi;"
    ' [ -n "$pids" ] && kill -s "$1" $pids'
)
# $1 = text: a process of that name, a line in the log, a file of that name
_HOSTILE = (
    "(trap '' HUP; exec -a \"$1\" sleep 86400) </dev/null >/dev/null 2>&1 & echo $! > /tmp/.hostile.pid;"
    ' mkdir -p /var/log; printf "%s\\n" "$1" >> /var/log/onstart.log;'
    ' : > "$WORKSPACE/$(printf "%s" "$1" | tr -d "/\\n")"'
)
_NOT_HOSTILE = "kill $(cat /tmp/.hostile.pid); rm -f /tmp/.hostile.pid"


def number_of(fault: FaultRecord, option: str, default: float) -> float:
    """A numeric option. Raises FaultRefused."""
    try:
        return float(fault.options.get(option, default))
    except ValueError as error:
        raise FaultRefused(f"Option {option} is a number.") from error


def _host(machines: Machines, contract: Contract, fault: FaultRecord) -> Host:
    if machines.host is None:
        raise FaultRefused(f"{fault.name} needs real machines, and this lab runs without them.")
    if contract.phase != "running":
        raise FaultRefused(f"Machine {contract.id} does not run now.")
    return machines.host


async def break_machine(world: World, machines: Machines, contract: Contract, fault: FaultRecord) -> None:
    """Make one fault real. Raises FaultRefused."""
    if fault.name in _NEED_NO_PROCESS:
        await _take(world, machines, contract, fault)
        return
    host = _host(machines, contract, fault)
    try:
        if fault.name in NETWORK_FAULTS:
            await shape_network(world, host, contract, [*_faults_of(world, contract), fault])
        else:
            await _act(host, str(contract.id), fault, on=True)
    except (OSError, TimeoutError) as error:
        raise FaultRefused(f"{fault.name} cannot be made real here: {error}") from error


async def mend_machine(world: World, machines: Machines, contract: Contract, fault: FaultRecord) -> None:
    """Undo one fault; what is no longer there needs no undoing."""
    if fault.name == "outbid":
        world.calm(contract.machine_id)
    elif machines.host is not None and contract.phase == "running":
        try:
            if fault.name in NETWORK_FAULTS:
                await shape_network(world, machines.host, contract, _faults_of(world, contract))
            else:
                await _act(machines.host, str(contract.id), fault, on=False)
        except (OSError, TimeoutError) as error:
            _log.warning("%s of machine %s could not be undone: %s", fault.name, contract.id, error)


def _faults_of(world: World, contract: Contract) -> list[FaultRecord]:
    return [fault for fault in world.state.faults if fault.target == str(contract.id)]


async def shape_network(world: World, host: Host, contract: Contract, faults: list[FaultRecord]) -> None:
    """Make a machine's network what all its faults together, and its host's lie, say it is."""
    severed = [fault.name for fault in faults if fault.name in _SEVERED]
    latencies = [number_of(fault, "latency_s", 0.2) for fault in faults if fault.name == "latency"]
    rates = [number_of(fault, "bytes_per_s", 200_000) for fault in faults if fault.name == "bandwidth"]
    if contract.lie == "network-speed":
        rates.append(world.hosts[contract.machine_id].inet_down_mbit * 1e6 / 8 * LIAR_NETWORK_SHARE)
    await host.network(
        str(contract.id),
        fault=severed[-1] if severed else None,
        latency_s=max(latencies, default=0.0),
        bytes_per_s=int(min(rates, default=0.0)),
    )


async def end_faults_at_boot(world: World, host: Host, contract: Contract) -> None:
    """A machine that boots is whole again: nothing of what was done to its processes or its network is left."""
    for fault in _faults_of(world, contract):
        if fault.name in _GPU:
            await host.set_gpu(str(contract.id), fault=None)
        elif fault.name == "flood":
            await host.flood(str(contract.id), needle=None)
        elif fault.name == "wrong-host-key":
            await host.wrong_host_key(str(contract.id), False)
        if fault.name != "outbid":
            world.state.faults.remove(fault)
    await shape_network(world, host, contract, [])


async def _take(world: World, machines: Machines, contract: Contract, fault: FaultRecord) -> None:
    """The faults in which the provider takes the machine away, or it dies."""
    if fault.name == "kill":
        power_off = str(fault.options.get("power_off", "")).lower() not in ("", "0", "false")
        if not world.move(contract, "lose" if power_off else "die"):
            raise FaultRefused(f"Machine {contract.id} does not run now.")
        if machines.host is not None:
            await machines.host.kill(str(contract.id), power_off=power_off)
    elif fault.name == "outbid":
        if contract.bid_usd_per_hour is None:
            raise FaultRefused("A machine rented on demand cannot be outbid.")
        world.outbid(contract, OUTBID_FACTOR)
    elif fault.name == "preempt":
        notice_s = number_of(fault, "notice_s", 30.0) * world.clock.speed
        contract.notice_until = world.clock.now() + notice_s
        world.at(notice_s, "preempt", contract_id=contract.id)
    elif fault.name == "preempt-silent":
        world.preempt(contract, silent=True)


async def _act(host: Host, machine_id: str, fault: FaultRecord, *, on: bool) -> None:
    name = fault.name
    if name == "hang":
        await (host.freeze(machine_id) if on else host.thaw(machine_id))
    elif name in _GPU:
        await host.set_gpu(machine_id, fault=_GPU[name] if on else None)
    elif name == "wrong-host-key":
        await host.wrong_host_key(machine_id, on)
    elif name == "flood":
        await host.flood(machine_id, needle=str(fault.options.get("needle", "agent")) if on else None)
    elif name == "disk-full":
        await host.disk_full(machine_id, on)
    elif name == "slow-disk":
        await host.slow_disk(machine_id, bytes_per_s=int(number_of(fault, "bytes_per_s", 1_000_000)) if on else 0)
    else:
        await _inside(host, machine_id, fault, on=on)


async def _inside(host: Host, machine_id: str, fault: FaultRecord, *, on: bool) -> None:
    """Faults that are acts inside the machine."""
    if fault.name == "hostile-text":
        argv = ["bash", "-c", _HOSTILE, "hostile", HOSTILE_TEXT] if on else ["bash", "-c", _NOT_HOSTILE]
        await host.run(machine_id, argv, timeout_s=SCRIPT_TIMEOUT_S)
        return
    signal = {"service-kill": "KILL", "service-hang": "STOP" if on else "CONT"}[fault.name]
    argv = ["sh", "-c", _SIGNAL_WORKLOAD, "signal", signal, str(fault.options.get("match", ""))]
    status, _text = await host.run(machine_id, argv, timeout_s=SCRIPT_TIMEOUT_S)
    if status and on:
        raise FaultRefused(f"Nothing runs on machine {machine_id} that {fault.name} could meet.")
