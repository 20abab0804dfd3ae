"""The lab's own API: status, faults, time, truth.

Its one rule: only the holder of the home's token, only from loopback.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from core.lab.asgi import Answer, BadRequest, Request, answer, is_local
from core.lab.catalogue import LIES
from core.lab.contracts import record
from core.lab.faults import DESCRIPTIONS, Faults, Target
from core.lab.refusal import FaultRefused
from core.lab.state import Contract
from core.lab.vast import VastFront
from core.lab.world import World

# how a contract's phase reads in `lab status`
_STATES = {
    "created": "booting",
    "provisioning": "booting",
    "loading": "booting",
    "booting": "booting",
    "rebooting": "booting",
    "running": "running",
    "stopped": "stopped",
    "outbid": "stopped",
    "scheduling": "stopped",
    "exited": "gone",
    "offline": "gone",
    "failed": "gone",
}


class Control:
    """`async (Request) -> Answer`. `stop` is called when the lab is told to end."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        front: VastFront,
        token: str,
        about: dict[str, Any],
        stop: Callable[[], None],
    ) -> None:
        self._world = world
        self._faults = faults
        self._front = front
        self._token = token
        self._about = about
        self._stop = stop

    async def __call__(self, request: Request) -> Answer:
        if not secrets.compare_digest(request.bearer.encode(), self._token.encode()):
            return answer(
                401, {"error": {"kind": "AuthRefused", "message": "The lab's token is in lab/lab.json under its home."}}
            )
        self._world.tick()
        try:
            return await self._route(request)
        except (FaultRefused, BadRequest) as refused:
            kind = "FaultRefused" if isinstance(refused, FaultRefused) else "BadRequest"
            return answer(409 if kind == "FaultRefused" else 400, {"error": {"kind": kind, "message": str(refused)}})

    async def _route(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/lab/status":
                return answer(200, self.status())
            case "GET", "/lab/faults":
                return answer(200, self.faults())
            case "GET", "/lab/truth":
                return answer(200, self.truth())
            case "POST", "/lab/fault":
                return await self._fault(request.json())
            case "POST", "/lab/heal":
                name = request.json().get("name")
                return answer(200, {"ended": await self._faults.end_all(None if name is None else str(name))})
            case "POST", "/lab/advance":
                return self._advance(request.json())
            case "POST", "/lab/stop":
                asyncio.get_running_loop().call_later(0.05, self._stop)
                return answer(200, {"state": "stopping"})
            case _:
                return answer(
                    404, {"error": {"kind": "NotFound", "message": f"No such call: {request.method} {request.path}"}}
                )

    # -- what is ---------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """State, endpoints and machines, as `lab status` prints them."""
        world = self._world
        alive = [c for c in world.state.contracts.values() if c.destroyed_at is None]
        return {
            **self._about,
            "state": "running",
            "lab_time": world.clock.now(),
            "credit_usd": round(world.state.account.credit_usd, 6),
            "faults": [
                self._fault_row(each.name, each.target, each.started_at, each.ends_at) for each in world.state.faults
            ],
            "machines": [self.machine(contract) for contract in alive],
        }

    def machine(self, contract: Contract) -> dict[str, Any]:
        """One LabMachine."""
        frozen = any(f.name == "hang" and f.target == str(contract.id) for f in self._world.state.faults)
        running = contract.phase == "running"
        return {
            "id": str(contract.id),
            "provider": contract.provider,
            "state": "frozen" if running and frozen else _STATES[contract.phase],
            "phase": contract.phase,
            "host": contract.machine_id,
            "lie": contract.lie,
            "label": contract.label,
            "isolation": contract.isolation or None,
            "address": contract.address or None,
            "ssh_host": contract.public_host if running else None,
            "ssh_port": contract.direct_port if running else None,
            "proxy_port": contract.proxy_port if running else None,
            "root": contract.root or None,
            "workspace_root": contract.workspace_root or None,
            "init_pid": contract.init_pid if running else None,
            "pid": contract.pid if running else None,
            "notice_until": contract.notice_until,
            "error": contract.boot_error or None,
        }

    def faults(self) -> dict[str, Any]:
        """Every fault there is, and those that are on."""
        on = [
            self._fault_row(each.name, each.target, each.started_at, each.ends_at) for each in self._world.state.faults
        ]
        known = [{"name": name, "what": what} for name, what in DESCRIPTIONS.items()]
        return {"faults": known, "active": on, "lies": LIES}

    @staticmethod
    def _fault_row(name: str, target: str, started_at: float, ends_at: float | None) -> dict[str, Any]:
        return {"fault": name, "target": target, "started_at": started_at, "ends_at": ends_at}

    def truth(self) -> dict[str, Any]:
        """Every contract ever made, which exist now, who lies, and how often each endpoint was called."""
        state = self._world.state
        contracts = [*state.history, *(record(each) for each in state.contracts.values())]
        rows = [{**msgspec.to_builtins(each), "exists": each.destroyed_at is None} for each in contracts]
        liars = [
            {"machine_id": h.machine_id, "lie": h.lie, "gpu": h.gpu.name} for h in self._world.hosts.values() if h.lie
        ]
        return {
            "lab_time": self._world.clock.now(),
            "contracts": sorted(rows, key=lambda row: int(row["id"])),
            "liars": liars,
            "calls": dict(self._front.calls),
            "answers": dict(self._front.statuses),
        }

    # -- what shall be ------------------------------------------------------------------------------------

    async def _fault(self, body: dict[str, Any]) -> Answer:
        options = body.get("options") or {}
        if not isinstance(options, dict) or not all(isinstance(v, int | float | str) for v in options.values()):
            raise BadRequest("options is an object of numbers and texts.")
        wanted = {name: None if body.get(name) is None else str(body[name]) for name in ("machine", "provider", "zone")}
        for_s = body.get("for_s")
        if for_s is not None and not (isinstance(for_s, int | float) and for_s > 0):
            raise BadRequest("for_s is a number of seconds above zero.")
        fault = await self._faults.put_on(str(body.get("name", "")), Target(**wanted), for_s, options)
        return answer(200, self._fault_row(fault.name, fault.target, fault.started_at, fault.ends_at))

    def _advance(self, body: dict[str, Any]) -> Answer:
        seconds = body.get("seconds")
        if not self._world.clock.manual:
            raise BadRequest("This lab's clock runs by itself; start it with --manual-clock.")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise BadRequest("seconds is a number, zero or above.")
        self._world.clock.advance(seconds)
        self._world.tick()
        return answer(200, {"lab_time": self._world.clock.now()})


def local_only(request: Request) -> Answer | None:
    """The refusal for a request that does not come from this host's own programs."""
    if is_local(request):
        return None
    return answer(403, {"error": {"kind": "Forbidden", "message": "The lab answers only on its loopback address."}})
