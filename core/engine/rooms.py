"""What can be read of the engine: the state, the market, histories, logs, ways to a machine. Changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.domain import api
from core.domain.errors import IntentRefused, NotFoundError
from core.domain.machines import Machine
from core.domain.market import HostHistory, Offer, OfferQuery, PriceHistory, fits
from core.domain.operations import Operation
from core.domain.readings import TelemetryPoint
from core.domain.units import clean
from core.engine.feed import Feed
from core.operations.context import Context
from core.remote.host_keys import alias
from core.services.telemetry import Telemetry
from core.store.history import History

LOG_LINES_MAX = 2000
FIRST_POLL_S = 10.0


@dataclass
class Rooms:
    context: Context
    feed: Feed
    history: History
    curves: Telemetry
    check: Callable[[], Awaitable[api.DoctorReply]]

    def snapshot(self) -> api.Snapshot:
        return api.Snapshot(state=self.context.store.state, readings=self.feed.readings, markets=self.feed.markets)

    async def journal(self, *, since: int, since_at: float, limit: int, workspace: str | None) -> api.JournalPage:
        limit = max(-5000, min(5000, limit)) or 500
        facts = await self.context.store.journal(since=since, since_at=since_at, limit=limit, workspace=workspace)
        return api.JournalPage(facts=facts)

    async def offers(self, wanted: api.OfferFilter) -> api.OffersReply:
        """The market as last polled; a first look waits for the first poll."""
        market = self.context.market
        missing = [p for p in self.context.providers if p not in market.polled_at]
        if missing:
            await market.fresh(missing, FIRST_POLL_S, FIRST_POLL_S)
        query = OfferQuery(
            gpu=wanted.gpu,
            count=wanted.count,
            kind=wanted.kind,
            provider=wanted.provider,
            region=wanted.region,
            max_usd_per_hour=wanted.max_usd_per_hour,
            min_vram_gb=wanted.min_vram_gb,
        )
        found = sorted((o for o in market.all_offers() if fits(o, query)), key=_ORDERS[wanted.sort])
        return api.OffersReply(
            offers=found[: wanted.limit] if wanted.limit > 0 else found, providers=list(market.status.values())
        )

    async def prices(self, price_class: str) -> PriceHistory:
        return await self.history.prices(price_class, self.context.clock())

    def host(self, provider: str, host_id: str) -> HostHistory:
        known = self.context.store.state.hosts.get(f"{provider}:{host_id}")
        return known or HostHistory(provider=provider, host_id=host_id)

    def operation(self, operation: str) -> Operation:
        known = self.context.store.state.operations.get(operation)
        if known is None:
            raise NotFoundError(
                f"There is no operation {operation[:80]}.", hint="Those there are: understudy operations list."
            )
        return known

    def machine(self, machine_id: str) -> Machine:
        known = self.context.store.state.machines.get(machine_id)
        if known is None:
            raise NotFoundError(
                f"There is no machine {machine_id[:60]}.", hint="Those there are: understudy machines list."
            )
        return known

    async def telemetry(self, machine_id: str, since_at: float) -> list[TelemetryPoint]:
        self.machine(machine_id)
        return await self.curves.since(machine_id, since_at)

    async def machine_log(self, machine_id: str, lines: int) -> api.MachineLog:
        machine = self.machine(machine_id)
        channel = self.context.reach.channel(machine.id)
        if channel is None:
            raise IntentRefused(
                f"{machine.id} has no agent connected now.", hint="Its log can be read when the agent is back."
            )
        tail = await channel.tail(max(1, min(LOG_LINES_MAX, lines)))
        return api.MachineLog(path=tail.path, lines=list(tail.lines), at=self.context.clock())

    async def provider_log(self, machine_id: str, lines: int) -> api.MachineLog:
        machine = self.machine(machine_id)
        provider = self.context.providers.get(machine.provider)
        if provider is None or machine.provider_id is None:
            raise IntentRefused(f"{machine.id} is not known to its provider.")
        text = await provider.logs(machine.provider_id, max(1, min(LOG_LINES_MAX, lines)))
        cleaned = [clean(line) for line in text.splitlines()]
        return api.MachineLog(path=None, lines=cleaned, at=self.context.clock())

    def endpoint(self, name: str) -> api.Endpoint:
        """By workspace or machine. Raises NotFoundError, or IntentRefused while it cannot be reached."""
        state = self.context.store.state
        workspace = state.workspaces.get(name)
        machine = state.machines.get((workspace.primary if workspace else None) or name)
        if workspace is not None and machine is None:
            machine = next(
                (m for m in state.machines.values() if m.workspace == name and m.state in ("checking", "ready")), None
            )
        if machine is None:
            if workspace is not None:
                raise IntentRefused(f"{name} is {workspace.state}: it has no machine that can be reached.")
            raise NotFoundError(f"There is no workspace or machine {name[:60]}.", hint="See: understudy list.")
        if machine.address is None or machine.port is None or machine.state not in ("checking", "ready", "lost"):
            raise IntentRefused(f"{machine.id} is {machine.state}: it cannot be reached.")
        return api.Endpoint(
            machine=machine.id,
            host=machine.address,
            port=machine.port,
            user=machine.user,
            identity_file=str(self.context.reach.identity),
            known_hosts=str(self.context.reach.known_hosts),
            alias=alias(machine.id),
            workspace_dir=machine.workspace_dir or "/workspace",
            warning=f"{machine.id} is lost: {machine.reason}" if machine.state == "lost" and machine.reason else "",
        )

    async def doctor(self) -> api.DoctorReply:
        return await self.check()


def _by_price(offer: Offer) -> tuple[float, str]:
    return offer.usd_per_gpu_hour, offer.id


def _by_value(offer: Offer) -> tuple[float, str]:
    return -(offer.value or 0.0), offer.id


def _by_reliability(offer: Offer) -> tuple[float, str]:
    return -(offer.reliability or 0.0), offer.id


_ORDERS = {"price": _by_price, "value": _by_value, "reliability": _by_reliability}
