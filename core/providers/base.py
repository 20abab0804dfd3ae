"""What a provider is to us: the contract that every cloud's file fulfils.

Rules: a call that changes something is sent at most once; every failure is a leaf of domain/errors.py, and after one
with `outcome_unknown` the caller must assume that it may have taken effect; what the provider printed is cleaned here.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from core.domain.market import Offer
from core.domain.units import Kind

ProviderMachineState = Literal["starting", "running", "stopped", "paused", "dead", "unknown"]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    user: str = "root"
    via: Literal["direct", "proxy"] = "direct"


class ProviderMachine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine as the provider lists it.

    `starting` may become running by itself; `paused` was outbid and may resume; `dead` never becomes running by itself;
    `unknown` has no heartbeat from its host now. `addresses`: best first, empty until it can be reached.
    """

    provider_id: str
    label: str
    state: ProviderMachineState
    status_text: str
    gpu: str
    gpu_count: int
    vram_mib: int
    kind: Kind
    usd_per_hour: float
    storage_usd_per_hour: float
    host_id: str
    machine_ref: str
    region: str = ""
    country: str = ""
    addresses: tuple[Address, ...] = ()
    driver_version: str | None = None
    cuda_max: float | None = None
    disk_gb: float | None = None
    inet_down_mbps: float | None = None
    disk_mbps: float | None = None


class RentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`label` carries the intent's token; `price_usd_per_hour` makes it a bid."""

    offer_id: str
    label: str
    image: str
    disk_gb: float
    price_usd_per_hour: float | None = None
    env: dict[str, str] = {}
    onstart: str = ""


class Rented(msgspec.Struct, frozen=True, kw_only=True):
    """`own_key`: a key that is good for this one machine only (it may end itself with it); secret, or None."""

    provider_id: str
    own_key: str | None = None

    def __repr__(self) -> str:
        return f"Rented(provider_id={self.provider_id!r})"


class OfferPage(msgspec.Struct, frozen=True, kw_only=True):
    """All offers that could be read; `rows_skipped` could not."""

    offers: list[Offer]
    rows_skipped: int = 0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`clock_skew_s`: the provider's clock minus ours as it answered, to about a second; None when it gave no time."""

    credit_usd: float | None
    name: str = ""
    clock_skew_s: float | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The whole account, all pages, or an error: never a part of it. Rows that could not be read are counted."""

    machines: list[ProviderMachine]
    rows_skipped: int = 0


class Provider(Protocol):
    """One account at one cloud. Every method raises ProviderError leaves only; all are safe to call at the same time.

    `absence_grace_s`: how long after a create or destroy a listing may still be behind (Vast up to 60 s, the lab 2 s).
    """

    name: str
    default_image: str
    absence_grace_s: float
    simulated: bool

    async def offers(self) -> OfferPage:
        """The market now, on-demand and spot, rentable offers only. Idempotent."""

    async def rent(self, request: RentRequest) -> Rented:
        """Asks for a machine: returns once accepted, long before it runs. NEVER retried here.

        Raises NoCapacity (gone; `left_behind` names a contract that the refusal left), QuotaReached, AuthRefused,
        RateLimited (nothing happened), or Unavailable and Unexpected with `outcome_unknown`.
        """

    async def machines(self) -> Listing:
        """Every machine of the account, ours or not. A machine that is not in it is gone (after the grace)."""

    async def destroy(self, provider_id: str) -> None:
        """Returns once the provider has accepted; silent when it is gone already. Idempotent, retried here."""

    async def start(self, provider_id: str) -> None:
        """Returns once accepted. Idempotent. It may never come: its GPU can be someone else's by now."""

    async def stop(self, provider_id: str) -> None:
        """Returns once accepted. Idempotent. Its disk keeps billing."""

    async def change_bid(self, provider_id: str, usd_per_hour: float) -> None:
        """Raises the bid of a spot machine, per machine and hour. Idempotent."""

    async def logs(self, provider_id: str, lines: int) -> str:
        """What the provider logged of the machine's start, cleaned line by line."""

    async def authorise_key(self, public_key: str) -> None:
        """Makes new machines accept this OpenSSH public key. Idempotent."""

    async def attach_key(self, provider_id: str, public_key: str) -> None:
        """Makes one running machine accept this key: how a machine of the account is adopted. Idempotent."""

    async def set_label(self, provider_id: str, label: str) -> None:
        """Writes our label on a machine that had another or none. Idempotent."""

    async def account(self) -> Account:
        """Who we are there and what is left. The cheapest read-only call: `doctor` uses it to judge a key."""

    def self_destruct(self, provider_id: str) -> tuple[str, str]:
        """(method, absolute URL) of the call by which a machine ends itself with its `own_key` as bearer."""

    async def close(self) -> None:
        """Closes connections. Idempotent."""
