"""The world behind every front: one clock, one heap of due events, one table of what may happen to a contract.

Its one rule: nothing here sleeps, reads the host's time or touches a process. Every delay is an event; what real
machines must do is handed out as effects, which the front carries out and answers with `booted`, `boot_failed` or
`died`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from core.lab.billing import bill, storage_usd_per_hour
from core.lab.catalogue import CloudHost, catalogue
from core.lab.clock import Clock
from core.lab.contracts import HOLDS_GPUS, NEXT, Order, Refused, record
from core.lab.market import MARKET_STEP_S, RENTERS_STEP_S, move_prices, move_renters, opening
from core.lab.state import Account, Contract, Effect, Event, WorldState, skip_pause

# shares of the time from the start to running: when the image pull begins, and when the container is made
_PULL_AT, _BOOT_AT = 0.15, 0.8
_RESTART_SHARE = 0.5
# how long a destroyed contract is kept whole, so that a lagging list can still show it
KEEP_DESTROYED_S = 180.0
OPENING_CREDIT_USD = 25.0
GONE_OFFERS_KEPT = 1000
PREEMPT_FACTOR = 1.3


class World:
    """The state and its verbs. `boot_s`: lab seconds from a start to running; `jitter`: the share by which boots
    differ.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int,
        boot_s: float,
        jitter: float = 0.0,
        scale: int = 1,
        state: WorldState | None = None,
    ) -> None:
        self.clock = clock
        self.boot_s = boot_s
        self.jitter = jitter
        self.was_paused = state is not None and state.paused
        if state is not None:
            clock.resume(state.lab_time, state.saved_at)
            if state.paused:
                skip_pause(state, clock.now())
        self.hosts: dict[int, CloudHost] = catalogue(*((state.seed, state.scale) if state else (seed, scale)))
        self.state = state or self._first_day(seed, scale)
        # a restarted world need not repeat the same dice, only a fresh one must
        self.rng = random.Random(self.state.seed + self.state.seq)
        self.changed = True
        # offers that were there a moment ago: renting one of them is 410, not 404
        self.gone_offers: deque[int] = deque(maxlen=GONE_OFFERS_KEPT)
        self.on_fault_end: Callable[[int], None] = lambda _fault_id: None
        self._refresh_offers()

    def _first_day(self, seed: int, scale: int) -> WorldState:
        now = self.clock.now()
        state = WorldState(
            seed=seed,
            scale=scale,
            seq=31_000_000,
            lab_time=now,
            saved_at=now,
            billed_until=now,
            account=Account(credit_usd=OPENING_CREDIT_USD),
            market=opening(random.Random(seed), self.hosts),
        )
        state.queue = [Event(now + MARKET_STEP_S, 1, "market"), Event(now + RENTERS_STEP_S, 2, "renters")]
        return state

    # -- numbers and events -----------------------------------------------------------------

    def number(self) -> int:
        """The next id; contracts, offers, keys and faults share one sequence."""
        self.state.seq += 1
        return self.state.seq

    def at(self, delay_s: float, kind: str, *, contract_id: int = 0, boot: int = 0, text: str = "") -> None:
        """Queue an event `delay_s` lab seconds from now."""
        event = Event(self.clock.now() + delay_s, self.number(), kind, contract_id, boot, text)
        heapq.heappush(self.state.queue, event)
        self.changed = True

    def effect(self, kind: str, contract: Contract) -> None:
        """Ask for an act on a real machine; kept in the state until the front confirms it."""
        self.state.pending.append(Effect(kind, contract.id, contract.boots))
        self.changed = True

    def tick(self) -> None:
        """Let everything happen that is due, each at its own time, and bill up to now."""
        now = self.clock.now()
        while self.state.queue and self.state.queue[0].due <= now:
            event = heapq.heappop(self.state.queue)
            self._bill(event.due)
            self._happen(event)
            self.changed = True
        self._bill(now)

    def snapshot(self) -> WorldState:
        """The state with its lab time, ready to be written."""
        self.state.lab_time = self.clock.now()
        return self.state

    def next_due(self) -> float | None:
        """Lab time of the next event."""
        return self.state.queue[0].due if self.state.queue else None

    def _bill(self, until: float) -> None:
        if bill(self.state, until):
            for contract in list(self.state.contracts.values()):
                if self.move(contract, "stop"):
                    contract.intended = "stopped"

    def _happen(self, event: Event) -> None:
        if event.kind == "market":
            move_prices(self.rng, self.hosts, self.state.market)
            self.settle_bids()
            self.at(MARKET_STEP_S, "market")
        elif event.kind == "renters":
            move_renters(self.rng, self.hosts, self.state.market, self._held())
            self._after_gpus_moved()
            self.at(RENTERS_STEP_S, "renters")
        elif event.kind == "fault-end":
            self.on_fault_end(int(event.text))
        elif event.kind == "preempt":
            self.preempt(self.state.contracts.get(event.contract_id))
        elif event.kind == "forget":
            self._compact(event.contract_id)
        elif event.kind == "step":
            contract = self.state.contracts.get(event.contract_id)
            if contract and contract.boots == event.boot and contract.destroyed_at is None:
                self.move(contract, event.text)

    # -- contracts ----------------------------------------------------------------------------

    def move(self, contract: Contract, event: str) -> bool:
        """Apply one event by the table; False when it means nothing in the contract's phase."""
        after = NEXT[contract.phase].get(event)
        if after is None or contract.destroyed_at is not None:
            return False
        before, contract.phase = contract.phase, after
        contract.phase_since = self.clock.now()
        self.changed = True
        if after in ("provisioning", "loading") and event == "start":
            self._start_boot(contract, first=before == "created")
        elif after in ("booting", "rebooting"):
            if after == "rebooting":
                contract.boots += 1
                contract.ready_at = self.clock.now() + self._boot_time() * _RESTART_SHARE
            self.effect("reboot" if after == "rebooting" else "boot", contract)
        elif after in ("stopped", "outbid", "failed") and before not in ("created", "scheduling"):
            self.effect("stop", contract)
        if after in ("stopped", "outbid") or event == "start":
            self._after_gpus_moved()
        return True

    def _boot_time(self) -> float:
        return self.boot_s * self.rng.uniform(1 - self.jitter, 1 + self.jitter)

    def _start_boot(self, contract: Contract, *, first: bool) -> None:
        contract.boots += 1
        total_s = self._boot_time() * (1.0 if first else _RESTART_SHARE)
        contract.ready_at = self.clock.now() + total_s
        if first:
            self.at(total_s * _PULL_AT, "step", contract_id=contract.id, boot=contract.boots, text="pull")
        if contract.lie == "no-boot":
            return
        ends = "fail" if contract.lie == "oci-error" else "image"
        self.at(total_s * _BOOT_AT, "step", contract_id=contract.id, boot=contract.boots, text=ends)

    def booted(self, contract: Contract, boot: int) -> None:
        """A machine is up: the contract runs as soon as its boot time is over too."""
        if contract.boots == boot:
            wait_s = max(0.0, contract.ready_at - self.clock.now())
            self.at(wait_s, "step", contract_id=contract.id, boot=boot, text="up")

    def boot_failed(self, contract: Contract, boot: int) -> None:
        """A machine could not be made on this host."""
        if contract.boots == boot:
            self.move(contract, "fail")

    # -- GPUs and bids --------------------------------------------------------------------------

    def _held(self) -> dict[int, int]:
        held: dict[int, int] = {}
        for contract in self.state.contracts.values():
            if contract.destroyed_at is None and contract.phase in HOLDS_GPUS:
                held[contract.machine_id] = held.get(contract.machine_id, 0) + contract.gpus
        return held

    def free_gpus(self, machine_id: int) -> int:
        """GPUs of a host that nobody holds."""
        return self.hosts[machine_id].gpu_count - self.state.market[machine_id].others - self._held().get(machine_id, 0)

    def _refresh_offers(self) -> None:
        """Offer ids are ephemeral: a slice that cannot be rented loses its id, and gets a new one when it can be
        again.
        """
        held = self._held()
        for machine_id, row in self.state.market.items():
            host = self.hosts[machine_id]
            free = host.gpu_count - row.others - held.get(machine_id, 0)
            offers = {gpus: row.offers.get(gpus) or self.number() for gpus in host.sizes if gpus <= free}
            if offers != row.offers:
                self.gone_offers.extend(set(row.offers.values()) - set(offers.values()))
                row.offers, self.changed = offers, True

    def _after_gpus_moved(self) -> None:
        self._refresh_offers()
        for contract in list(self.state.contracts.values()):
            if contract.phase == "scheduling" and contract.destroyed_at is None:
                self._try_start(contract)

    def _try_start(self, contract: Contract) -> None:
        affordable = contract.bid_usd_per_hour is None or contract.bid_usd_per_hour >= self.floor(contract)
        if affordable and self.free_gpus(contract.machine_id) >= contract.gpus:
            self.move(contract, "start")
        else:
            self.move(contract, "wait")

    def floor(self, contract: Contract) -> float:
        """The lowest bid that wins this contract's slice now, USD per hour."""
        return round(self.state.market[contract.machine_id].floor_usd_per_gpu_hour * contract.gpus, 4)

    def settle_bids(self) -> None:
        """Pause every bid that lost, resume every paused one that wins again."""
        for contract in list(self.state.contracts.values()):
            bid = contract.bid_usd_per_hour
            if bid is None or contract.destroyed_at is not None:
                continue
            if bid < self.floor(contract):
                self.move(contract, "outbid")
            elif contract.phase == "outbid" and self.free_gpus(contract.machine_id) >= contract.gpus:
                self.move(contract, "start")
        self._refresh_offers()

    def outbid(self, contract: Contract, factor: float) -> None:
        """Somebody bids `factor` times this contract's bid for its GPUs."""
        row = self.state.market[contract.machine_id]
        row.floor_usd_per_gpu_hour = round((contract.bid_usd_per_hour or 0.0) * factor / contract.gpus, 4)
        self.settle_bids()

    def calm(self, machine_id: int) -> None:
        """The floor of a host falls back to its usual value."""
        self.state.market[machine_id].floor_usd_per_gpu_hour = self.hosts[machine_id].floor_usd_per_gpu_hour
        self.settle_bids()

    def preempt(self, contract: Contract | None, *, silent: bool = False) -> None:
        """The market takes a machine: a bid is outbid and pauses, one on demand loses its host. `silent`: with no word
        on the network.
        """
        if contract is None or contract.destroyed_at is not None:
            return
        contract.notice_until = None
        if contract.bid_usd_per_hour is not None:
            self.outbid(contract, PREEMPT_FACTOR)
            silent_stop = silent and contract.phase == "outbid"
        else:
            silent_stop = self.move(contract, "lose")
        if silent_stop:
            stops = [each for each in self.state.pending if each.contract_id == contract.id and each.kind == "stop"]
            self.state.pending = [each for each in self.state.pending if each not in stops]
            self.effect("power-off", contract)

    # -- verbs ------------------------------------------------------------------------------------

    def offer_of(self, offer_id: int) -> tuple[CloudHost, int] | None:
        """The host and the number of GPUs behind an offer id; None when it is gone."""
        for machine_id, row in self.state.market.items():
            for gpus, each in row.offers.items():
                if each == offer_id:
                    return self.hosts[machine_id], gpus
        return None

    def rent(self, provider: str, offer_id: int, order: Order) -> Contract:
        """Make a contract.

        A bid under the floor makes one too, stopped, with its storage billing: that is how the market is.
        Raises Refused(no_such_offer | no_credit).
        """
        found = self.offer_of(offer_id)
        if found is None:
            raise Refused("no_such_offer", f"Instance type by id {offer_id} is not available.")
        if self.state.account.credit_usd <= 0:
            raise Refused("no_credit", "Your account lacks credit; see the billing page.")
        host, gpus = found
        row = self.state.market[host.machine_id]
        now = self.clock.now()
        contract = Contract(
            id=self.number(),
            provider=provider,
            machine_id=host.machine_id,
            gpus=gpus,
            phase="created",
            intended="running",
            bid_usd_per_hour=order.bid_usd_per_hour,
            usd_per_hour=order.bid_usd_per_hour or round(row.usd_per_gpu_hour * gpus, 4),
            storage_usd_per_hour=storage_usd_per_hour(host.storage_usd_per_gb_month, order.disk_gb),
            disk_gb=order.disk_gb,
            created_at=now,
            phase_since=now,
            label=order.label,
            image=order.image,
            runtype=order.runtype,
            env=order.env,
            onstart=order.onstart,
            lie=order.lie or host.lie,
            keys=dict(self.state.account.keys),
        )
        self.state.contracts[contract.id] = contract
        if order.bid_usd_per_hour is not None and order.bid_usd_per_hour < self.floor(contract):
            contract.intended = "stopped"
            self.move(contract, "refuse")
        else:
            self._try_start(contract)
        self._refresh_offers()
        self.changed = True
        return contract

    def living(self, contract_id: int) -> Contract:
        """The contract, if it exists now. Raises Refused(no_such_contract)."""
        contract = self.state.contracts.get(contract_id)
        if contract is None or contract.destroyed_at is not None:
            raise Refused("no_such_contract", f"Instance {contract_id} not found.")
        return contract

    def start(self, contract: Contract) -> None:
        """The renter wants it running; it may have to wait for GPUs."""
        contract.intended, self.changed = "running", True
        if contract.phase == "stopped":
            self._try_start(contract)

    def stop(self, contract: Contract) -> None:
        """The renter wants it stopped: its GPUs go back to the market, its storage bills on."""
        contract.intended, self.changed = "stopped", True
        self.move(contract, "stop")

    def change_bid(self, contract: Contract, usd_per_hour: float) -> None:
        """A new bid for the whole machine; it may win or lose at once."""
        contract.bid_usd_per_hour = contract.usd_per_hour = usd_per_hour
        self.changed = True
        self.settle_bids()
        if contract.phase == "stopped" and contract.intended == "running":
            self._try_start(contract)

    def destroy(self, contract: Contract) -> None:
        """The contract ends now; it stays in the state for KEEP_DESTROYED_S, for lists that lag."""
        bill(self.state, self.clock.now())
        self.effect("destroy", contract)
        contract.destroyed_at = self.clock.now()
        self.at(KEEP_DESTROYED_S, "forget", contract_id=contract.id)
        self._after_gpus_moved()

    def _compact(self, contract_id: int) -> None:
        contract = self.state.contracts.pop(contract_id, None)
        if contract:
            self.state.history.append(record(contract))

    def seen(self, provider: str, *, lag_s: float) -> list[Contract]:
        """The account's contracts with a provider as they were `lag_s` ago, by id."""
        then = self.clock.now() - lag_s
        shown = [
            c
            for c in self.state.contracts.values()
            if c.provider == provider
            and (lag_s == 0 or c.created_at <= then)
            and (c.destroyed_at is None or (lag_s > 0 and c.destroyed_at > then))
        ]
        return sorted(shown, key=lambda c: c.id)
