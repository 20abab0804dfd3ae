"""Who carries out what the world asks of machines.

Its one rule: the world decides, this acts, and answers with what is then true.

`real_machines.RealMachines` boots process trees; `ClockMachines` here only pretends, for worlds without machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core.lab.state import Contract, Effect
from core.lab.world import World

if TYPE_CHECKING:
    # a world without machines starts without what makes them
    from core.lab.host import Host

# privileged ports that no system uses: connects are refused at once
NOBODY_LISTENS = (1, 2)
IDLE_TEMPERATURE_C = 35.0


@dataclass(frozen=True)
class Heartbeat:
    """What a host reports to the provider about a machine's GPUs: means over them, memory in total."""

    gpu_utilization_pct: float
    gpu_temperature_c: float
    gpu_memory_gb: float


class Machines(Protocol):
    """What fronts and faults may ask of machines."""

    @property
    def isolation(self) -> str:
        """ "ns", "plain", or "none" for a world without machines."""
        ...

    @property
    def host(self) -> Host | None:
        """The real machines; None in a world without."""
        ...

    async def carry_out(self, effect: Effect) -> None:
        """Do one effect; harmless when repeated."""
        ...

    async def set_keys(self, contract: Contract) -> None:
        """Who may log in from now on."""
        ...

    async def run(self, contract: Contract, argv: list[str]) -> bytes:
        """What a command prints inside the machine."""
        ...

    def heartbeat(self, contract: Contract) -> Heartbeat | None:
        """The latest figures of a running machine; None before the first."""
        ...

    async def logs(self, contract: Contract) -> bytes:
        """The container's log."""
        ...


def boot_log(contract: Contract) -> bytes:
    """What the provider itself logs about a container."""
    lines = [
        f"Pulling image {contract.image}",
        "Image ready",
        f"Starting container C.{contract.id}",
        "sshd: Server listening on 0.0.0.0 port 22.",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


class ClockMachines:
    """Machines that exist only as phases of their contract."""

    isolation = "none"
    host: Host | None = None

    def __init__(self, world: World) -> None:
        self._world = world

    async def carry_out(self, effect: Effect) -> None:
        """A boot succeeds at once; everything else needs nothing."""
        contract = self._world.state.contracts.get(effect.contract_id)
        if contract and effect.kind in ("boot", "reboot"):
            contract.direct_port, contract.proxy_port = NOBODY_LISTENS
            self._world.booted(contract, effect.boot)

    async def set_keys(self, contract: Contract) -> None:
        """Nothing to tell."""

    async def run(self, contract: Contract, argv: list[str]) -> bytes:
        """There is no machine to run it on, and the answer says so."""
        return f"{argv[0]}: machine {contract.id} is only a clock's, nothing runs there\n".encode()

    def heartbeat(self, contract: Contract) -> Heartbeat | None:
        """An idle GPU."""
        return Heartbeat(0.0, IDLE_TEMPERATURE_C, 0.0) if contract.phase == "running" else None

    async def logs(self, contract: Contract) -> bytes:
        """The provider's lines only."""
        return boot_log(contract)
