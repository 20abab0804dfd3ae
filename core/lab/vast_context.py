"""What every handler of the Vast front needs. Its one rule: one value, handed in, no globals."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from core.lab.asgi import Answer, answer
from core.lab.contracts import Refused
from core.lab.faults import Faults
from core.lab.machines import Machines
from core.lab.state import Contract
from core.lab.world import World

PROVIDER = "vast"


@dataclass
class VastContext:
    """`base_url` is where result URLs point; `results` holds finished logs and command outputs by their token."""

    world: World
    machines: Machines
    faults: Faults
    base_url: str
    results: dict[str, bytes] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def living(self, contract_id: int | str) -> Contract:
        """The contract. Raises Refused(no_such_contract)."""
        contract = self.world.living(int(contract_id))
        if contract.provider != PROVIDER:
            raise Refused("no_such_contract", f"Instance {contract_id} not found.")
        return contract

    def seen(self) -> list[Contract]:
        """The account's contracts as lists show them now."""
        return self.world.seen(PROVIDER, lag_s=self.faults.lag_s())


def error(status: int, code: str, message: str, **more: Any) -> Answer:
    """The provider's usual shape of an error."""
    return answer(status, {"success": False, "error": code, "msg": message, **more})


def done(**more: Any) -> Answer:
    """The provider's usual shape of a success."""
    return answer(200, {"success": True, **more})
