"""The lab's faults, for the console: the engine speaks to the lab's control door. Lab homes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from core import labfile
from core.domain import api
from core.domain.errors import EngineError, IntentRefused
from core.domain.events import Said
from core.engine.permission import allow
from core.home import Home
from core.store.store import Store

TIMEOUT_S = 15.0


@dataclass
class LabFaults:
    home: Home
    store: Store

    async def list(self) -> list[dict[str, Any]]:
        reply = await self._ask("GET", "/lab/faults")
        faults: list[dict[str, Any]] = reply["faults"] if isinstance(reply, dict) else reply
        return faults

    async def start(self, intent: api.FaultIntent, actor: str) -> dict[str, Any]:
        """Makes something go wrong, and says so in the journal: what is simulated is always labelled."""
        allow(actor, "make faults", intent.name)
        machine = self.store.state.machines.get(intent.machine or "")
        target = machine.provider_id if machine is not None else intent.machine
        options = dict(intent.options) | ({"power_off": True} if intent.power_off else {})
        body = {
            "name": intent.name,
            "machine": target,
            "provider": intent.provider,
            "zone": intent.zone,
            "for_s": intent.for_s,
            "options": options,
        }
        reply = await self._ask("POST", "/lab/fault", {k: v for k, v in body.items() if v is not None})
        about = intent.machine or intent.provider or intent.zone or "the lab"
        await self.store.say(
            Said(
                kind="lab_fault",
                machine=machine.id if machine else None,
                actor=actor,
                detail={"fault": intent.name, "target": about},
            )
        )
        made: dict[str, Any] = reply
        return made

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if not self.home.is_lab:
            raise IntentRefused("There is no lab in this home.", hint="A lab home is made by: understudy lab up.")
        lab = labfile.read(self.home)
        if lab is None:
            raise EngineError("The lab is not running.", hint="Start it with: understudy lab up.")
        transport = httpx.AsyncHTTPTransport(verify=False)  # loopback http only
        headers = {"Authorization": f"Bearer {lab.token}"}
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url=lab.control, timeout=TIMEOUT_S, headers=headers
            ) as client:
                reply = await client.request(method, path, json=body)
        except httpx.HTTPError as e:
            raise EngineError("The lab does not answer.", hint="Start it with: understudy lab up.") from e
        if reply.status_code >= 400:
            raise IntentRefused(_sentence(reply))
        return reply.json()


def _sentence(reply: httpx.Response) -> str:
    try:
        said = reply.json()
    except ValueError:
        return f"The lab refused with HTTP {reply.status_code}."
    return str(said.get("message") or said.get("msg") or said.get("error") or f"HTTP {reply.status_code}")
