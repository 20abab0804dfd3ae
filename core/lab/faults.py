"""Everything that can be made to go wrong. Its one rule: a fault is either real or refused with a sentence.

Faults of a provider or a zone are flags that the fronts ask for; faults of a machine are acts on its processes and
its network (`machine_faults`). Each is stored in the world with its end, so that a restart of the front neither
loses nor prolongs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from core.lab.catalogue import LIES
from core.lab.machine_faults import MACHINE_FAULTS, ONCE, SILENT, break_machine, mend_machine, number_of
from core.lab.machines import Machines
from core.lab.refusal import FaultRefused
from core.lab.state import Contract, FaultRecord
from core.lab.world import World

# name -> what it does; `zone` is a country code, both take options endpoint, probability, count
ZONE_FAULTS: dict[str, str] = {
    "stockout": "no offers in the zone (or anywhere); renting one that was seen answers 404 or 410",
    "quota": "searches answer 429 search_quota_exceeded until midnight UTC",
}
PROVIDER_FAULTS: dict[str, str] = {
    "api-429": "calls answer 429, in turn as JSON, plain text and HTML",
    "api-500": "calls answer 500",
    "api-timeout": "calls get no answer; the connection breaks after hold_s (10) seconds",
    "html-body": "calls answer an HTML page (option status, 200)",
    "malformed-row": "as many rows as option rows (1) of every list are broken",
    "bad-key": "every key is refused",
    "list-lag": "lists show the account as it was lag_s (30) seconds ago",
    "created-but-error": (
        "create makes the machine and answers 500"
        " (options: answer=break for no answer, answer=late for the right one; hold_s: so much later)"
    ),
    "low-credit": "the balance falls to option usd (0.01)",
    "clock-skew": "the provider's timestamps are off by option seconds (3600)",
    "hostile-text": "names and messages carry control sequences; with a machine, its processes and logs too",
    "stuck-boot": "machines rented from now on stay in loading",
    "lying-host": "machines rented from now on have the lie of option what (gpu-count)",
}
DESCRIPTIONS: dict[str, str] = {**MACHINE_FAULTS, **ZONE_FAULTS, **PROVIDER_FAULTS}
PROVIDERS = ("vast",)
EVERYWHERE = "everywhere"
Options = Mapping[str, float | str]


@dataclass(frozen=True)
class Target:
    """At what a fault is aimed; at most one is set, else a machine fault takes the only machine there is."""

    machine: str | None = None
    provider: str | None = None
    zone: str | None = None


class Faults:
    """The faults that are on, and the way to put them on and off."""

    def __init__(self, world: World, machines: Machines) -> None:
        self._world = world
        self._machines = machines
        self._tasks: set[asyncio.Task[None]] = set()
        world.on_fault_end = self._ended

    # -- what the fronts ask ----------------------------------------------------------------------

    def active(self, name: str) -> list[FaultRecord]:
        """Records of one name that are on now."""
        return [fault for fault in self._world.state.faults if fault.name == name]

    def hit(self, name: str, endpoint: str) -> FaultRecord | None:
        """The fault that strikes this call of `endpoint`, after its options endpoint, probability and count."""
        for fault in self.active(name):
            if fault.target.isdigit():
                continue
            wanted = str(fault.options.get("endpoint", ""))
            if wanted and endpoint not in wanted.split(","):
                continue
            if self._world.rng.random() >= float(fault.options.get("probability", 1.0)):
                continue
            if "count" in fault.options:
                left = float(fault.options["count"]) - 1
                fault.options["count"] = left
                self._world.changed = True
                if left <= 0:
                    self._world.state.faults.remove(fault)
            return fault
        return None

    def _number(self, name: str, option: str, default: float) -> float:
        """A numeric option of the first active fault of a name; 0 where none is on."""
        found = self.active(name)
        return number_of(found[0], option, default) if found else 0.0

    def lag_s(self) -> float:
        """How old lists are, lab seconds."""
        return self._number("list-lag", "lag_s", 30.0)

    def skew_s(self) -> float:
        """By how much the provider's clock is wrong."""
        return self._number("clock-skew", "seconds", 3600.0)

    def out_of_stock(self, country: str) -> bool:
        """Whether a zone has nothing to rent."""
        return any(fault.target in (country, EVERYWHERE, *PROVIDERS) for fault in self.active("stockout"))

    def silent_since(self, contract: Contract) -> float | None:
        """When the provider last heard of a contract's host, where it does not hear it now."""
        if contract.phase == "offline":
            return contract.phase_since
        cut = [f.started_at for f in self._world.state.faults if f.target == str(contract.id) and f.name in SILENT]
        return min(cut) if cut and contract.phase == "running" else None

    def tainted(self) -> frozenset[int]:
        """Contracts whose own rows carry hostile text."""
        return frozenset(int(fault.target) for fault in self.active("hostile-text") if fault.target.isdigit())

    def lie(self, machine_id: int) -> str | None:
        """The lie that a contract made now on this host gets."""
        for fault in [*self.active("stuck-boot"), *self.active("lying-host")]:
            if fault.target in (str(machine_id), *PROVIDERS):
                return "no-boot" if fault.name == "stuck-boot" else str(fault.options.get("what", "gpu-count"))
        return None

    # -- on and off ---------------------------------------------------------------------------------

    async def put_on(self, name: str, target: Target, for_s: float | None, options: Options) -> FaultRecord:
        """Make it so. `for_s`: real seconds until it ends by itself. Raises FaultRefused."""
        if name not in DESCRIPTIONS:
            raise FaultRefused(f"There is no fault named {name!r}; `lab fault --list` names them all.")
        if target.provider and target.provider not in PROVIDERS:
            raise FaultRefused(f"This lab has no provider {target.provider!r}; it has {', '.join(PROVIDERS)}.")
        if name == "lying-host" and options.get("what", "gpu-count") not in LIES:
            raise FaultRefused(f"There is no such lie; option what is one of {', '.join(LIES)}.")
        now = self._world.clock.now()
        ends_at = None if for_s is None else now + for_s * self._world.clock.speed
        where = self._where(name, target)
        fault = FaultRecord(
            id=self._world.number(), name=name, target=where, started_at=now, ends_at=ends_at, options=dict(options)
        )
        if name == "heal" and not where.isdigit():
            await self._heal_more(target.provider)
        elif where.isdigit() and name in MACHINE_FAULTS:
            await self._strike(fault)
        elif where.isdigit() and name == "hostile-text":
            await break_machine(self._world, self._machines, self._contract(where), fault)
        elif name == "low-credit":
            fault.options["had"] = self._world.state.account.credit_usd
            self._world.state.account.credit_usd = float(options.get("usd", 0.01))
        if name not in ONCE:
            self._world.state.faults.append(fault)
            if ends_at is not None and for_s is not None:
                self._world.at(for_s * self._world.clock.speed, "fault-end", text=str(fault.id))
        self._world.changed = True
        return fault

    async def _strike(self, fault: FaultRecord) -> None:
        contract = self._contract(fault.target)
        if fault.name != "heal":
            await break_machine(self._world, self._machines, contract, fault)
            return
        await self._end_those([each for each in self._world.state.faults if each.target == fault.target])
        self._revive(contract)

    def _revive(self, contract: Contract) -> None:
        if contract.phase in ("exited", "offline"):
            self._world.move(contract, "reboot")

    async def _heal_more(self, provider: str | None) -> None:
        """All that is aimed at a provider or a zone, or (None) everything there is."""
        machines = [each for each in self._world.state.faults if each.target.isdigit()]
        await self._end_those([each for each in self._world.state.faults if each not in machines])
        if provider is None:
            await self._end_those(machines)
            for contract in list(self._world.state.contracts.values()):
                self._revive(contract)

    def _contract(self, where: str) -> Contract:
        contract = self._world.state.contracts.get(int(where))
        if contract is None or contract.destroyed_at is not None:
            raise FaultRefused(f"There is no machine {where}.")
        return contract

    def _where(self, name: str, target: Target) -> str:
        if name == "heal" and target.machine is None:
            return target.provider or EVERYWHERE
        if name in MACHINE_FAULTS:
            if target.machine is None:
                alive = [c for c in self._world.state.contracts.values() if c.destroyed_at is None]
                if len(alive) != 1:
                    raise FaultRefused(f"Say which machine with --machine: there are {len(alive)}.")
                return str(alive[0].id)
            if not target.machine.isdigit():
                raise FaultRefused(f"There is no machine {target.machine}.")
            return target.machine
        if name in ZONE_FAULTS:
            return target.zone or target.provider or EVERYWHERE
        if name in ("stuck-boot", "lying-host", "hostile-text") and target.machine:
            return target.machine
        return target.provider or PROVIDERS[0]

    async def end(self, fault: FaultRecord) -> None:
        """Undo one fault; one that is off already is fine."""
        if fault not in self._world.state.faults:
            return
        self._world.state.faults.remove(fault)
        self._world.changed = True
        if fault.name == "low-credit":
            self._world.state.account.credit_usd += float(fault.options["had"]) - float(fault.options.get("usd", 0.01))
        elif fault.target.isdigit():
            contract = self._world.state.contracts.get(int(fault.target))
            if contract and contract.destroyed_at is None:
                await mend_machine(self._world, self._machines, contract, fault)

    async def end_all(self, name: str | None = None) -> int:
        """Undo every fault, or every one of a name; how many there were."""
        return await self._end_those([fault for fault in self._world.state.faults if name in (None, fault.name)])

    async def _end_those(self, found: list[FaultRecord]) -> int:
        for fault in found:
            await self.end(fault)
        return len(found)

    def _ended(self, fault_id: int) -> None:
        found = [fault for fault in self._world.state.faults if fault.id == fault_id]
        for fault in found:
            task = asyncio.get_running_loop().create_task(self.end(fault))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def resume(self) -> None:
        """After a restart: end what should have ended meanwhile, drop what belonged to machines that are gone."""
        now = self._world.clock.now()
        for fault in list(self._world.state.faults):
            if fault.ends_at is not None and fault.ends_at <= now:
                await self.end(fault)
