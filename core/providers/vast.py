"""Vast.ai: its HTTP API as a Provider. Its one rule: the base URL is handed in, never assumed: a lab stays a lab.

Endpoints, fields, limits and traps: the API's OpenAPI files and the official client (vastai 1.9.1), read August 2026.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urlsplit

from core.domain.errors import (
    AuthRefused,
    MachineNotFound,
    NoCapacity,
    ProviderError,
    QuotaReached,
    RateLimited,
    Unavailable,
    Unexpected,
)
from core.domain.market import Offer
from core.domain.units import clean
from core.providers.base import Account, Listing, OfferPage, ProviderMachine, Rented, RentRequest
from core.providers.http import Answer, Endpoint, Pacing, ProviderHttp, clock_skew_s
from core.providers.vast_rows import BID_SUFFIX, InstanceRow, OfferRow, machine, offer, read_rows

VAST_URL = "https://console.vast.ai"
DEFAULT_IMAGE = "vastai/base-image:cuda-12.8.1-auto"
OFFER_LIMIT = 3000  # what other clients use for "all"; the default is undocumented and small
PAGE = 25  # the most that a v1 page holds
MAX_PAGES = 400
LIST_ATTEMPTS = 3
LOG_WAITS = 30  # the official client asks 30 times, 0.3 s apart
LOG_WAIT_S = 0.3
MAX_LOG_BYTES = 1024 * 1024

# Minimum seconds between calls, from the provider's rate-limit page; search and account have no published figure.
SEARCH = Endpoint("search", "POST", 1.0, timeout_s=60.0)
LIST = Endpoint("list", "GET", 1.0, timeout_s=20.0)
CREATE = Endpoint("create", "PUT", 4.5, idempotent=False, changes=True, timeout_s=60.0)
DESTROY = Endpoint("destroy", "DELETE", 3.0, changes=True)
MANAGE = Endpoint("manage", "PUT", 1.0, changes=True)
BID = Endpoint("change-bid", "PUT", 5.5, changes=True)
LOGS = Endpoint("logs", "PUT", 1.0)
KEYS = Endpoint("list-keys", "GET", 1.0)
ADD_KEY = Endpoint("add-key", "POST", 1.0, changes=True)
ACCOUNT = Endpoint("account", "GET", 1.0)

_NO_CREDIT = ("insufficient_credit", "insufficient credit", "spend_rate_limit", "no_credit", "lacks credit")
_NO_CAPACITY = ("no_such_ask", "invalid_price", "is not available", "not enough disk", "unavailable")
_GONE = ("no_such_instance", "not_found", "no_such_contract")


class Vast:
    """One Vast.ai account. `api_key` is asked at every call, so a changed key works at once; it is never kept.

    `pacing_scale` 0 turns waiting off (tests, the lab without pacing); `clock` gives `observed_at`.
    """

    name = "vast"
    default_image = DEFAULT_IMAGE

    def __init__(
        self,
        *,
        base_url: str,
        api_key: Callable[[], str],
        simulated: bool,
        pacing_scale: float = 1.0,
        absence_grace_s: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.simulated = simulated
        self.absence_grace_s = absence_grace_s
        self._clock = clock
        self._source = "Vast.ai lab" if simulated else "Vast.ai"
        self._pacing = Pacing(scale=pacing_scale)
        self._http = ProviderHttp(
            provider=self.name,
            title=self._source,
            base_url=base_url,
            headers=lambda: {"authorization": f"Bearer {api_key()}"},
            refine=self._refine,
            pacing=self._pacing,
        )

    async def offers(self) -> OfferPage:
        """The market now. Two searches: on-demand rows, and bid rows with the price that wins now."""
        offers: list[Offer] = []
        skipped = 0
        for bid in (False, True):
            answer = await self._http.call(SEARCH, "/api/v0/bundles/", json=_search_body(bid=bid))
            rows = self._rows(answer, "offers", SEARCH)
            meaning = partial(offer, bid=bid, observed_at=self._clock(), source=self._source)
            read, unread = await asyncio.to_thread(read_rows, rows, OfferRow, meaning)
            offers += read
            skipped += unread
        return OfferPage(offers=offers, rows_skipped=skipped)

    async def rent(self, request: RentRequest) -> Rented:
        """See Provider.rent. `price_usd_per_hour` None rents on demand, whatever list the offer came from."""
        ask = request.offer_id.removesuffix(BID_SUFFIX)
        if not ask.isdigit():
            raise MachineNotFound(
                f"'{clean(request.offer_id, 60)}' is no offer of {self._source}.",
                provider=self.name,
                operation="create",
            )
        answer = await self._http.call(CREATE, f"/api/v0/asks/{ask}/", json=_rent_body(request))
        contract = _contract_of(answer)
        if contract is None:
            raise Unexpected(
                f"{self._source} accepted the order and named no machine.", provider=self.name, operation="create"
            )
        key = answer.body.get("instance_api_key")
        return Rented(provider_id=contract, own_key=key if isinstance(key, str) and key else None)

    async def machines(self) -> Listing:
        """All pages as one listing; read again when a row may be missing because the account changed meanwhile."""
        for _ in range(LIST_ATTEMPTS):
            rows, total = await self._all_pages()
            if total is None or len(rows) >= total:
                read, skipped = read_rows(rows, InstanceRow, machine)
                unique: dict[str, ProviderMachine] = {each.provider_id: each for each in read}
                return Listing(machines=list(unique.values()), rows_skipped=skipped)
        raise Unavailable(
            f"{self._source} listed fewer machines than it says there are.",
            provider=self.name,
            operation=LIST.name,
            outcome_unknown=False,
        )

    async def destroy(self, provider_id: str) -> None:
        try:
            await self._http.call(DESTROY, self._machine_path(provider_id), json={})
        except MachineNotFound:
            return

    async def start(self, provider_id: str) -> None:
        await self._http.call(MANAGE, self._machine_path(provider_id), json={"state": "running"})

    async def stop(self, provider_id: str) -> None:
        await self._http.call(MANAGE, self._machine_path(provider_id), json={"state": "stopped"})

    async def change_bid(self, provider_id: str, usd_per_hour: float) -> None:
        path = self._machine_path(provider_id, "bid_price/")
        await self._http.call(BID, path, json={"client_id": "me", "price": round(usd_per_hour, 4)})

    async def logs(self, provider_id: str, lines: int) -> str:
        """The log is written somewhere first and polled for, about 9 s at most; a private address is refused."""
        path = self._machine_path(provider_id, "request_logs/")
        answer = await self._http.call(LOGS, path, json={"tail": str(lines)})
        url = answer.body.get("result_url") if isinstance(answer.body, dict) else None
        if not isinstance(url, str) or not await self._may_fetch(url):
            raise Unexpected(
                f"{self._source} points to its log at an address that is not its own.",
                provider=self.name,
                operation=LOGS.name,
                outcome_unknown=False,
            )
        for _ in range(LOG_WAITS):
            status, text = await self._http.get_text(url, limit=MAX_LOG_BYTES, timeout_s=10.0, operation=LOGS.name)
            if status == 200:
                return "\n".join(clean(line, 1000) for line in text.splitlines()[-lines:])
            await self._pacing.sleep(LOG_WAIT_S)
        raise Unavailable(
            f"{self._source} has not written the machine's log yet.",
            provider=self.name,
            operation=LOGS.name,
            outcome_unknown=False,
        )

    async def authorise_key(self, public_key: str) -> None:
        """Adds the key to the account unless it is there. It reaches machines made afterwards only."""
        words = public_key.split()
        if await self._has_key(words[1]):
            return
        try:
            await self._http.call(ADD_KEY, "/api/v0/ssh/", json={"ssh_key": " ".join(words)})
        except Unexpected:
            if not await self._has_key(words[1]):
                raise

    async def attach_key(self, provider_id: str, public_key: str) -> None:
        """Adds the key to one running instance; one that has it already says so and is left."""
        words = public_key.split()
        path = self._machine_path(provider_id)
        answer = await self._http.call(KEYS, f"{path}ssh/")
        if not any(words[1] in text for text in _strings(answer.body)):
            await self._http.call(ADD_KEY, f"{path}ssh/", json={"ssh_key": " ".join(words)})

    async def set_label(self, provider_id: str, label: str) -> None:
        await self._http.call(MANAGE, self._machine_path(provider_id), json={"label": label})

    async def account(self) -> Account:
        answer = await self._http.call(ACCOUNT, "/api/v0/users/current/")
        body = answer.body
        if not isinstance(body, dict):
            self._no_sense(ACCOUNT)
        credit = body.get("credit")
        return Account(
            credit_usd=float(credit) if isinstance(credit, int | float) else None,
            name=clean(str(body.get("email") or body.get("username") or ""), 80),
            clock_skew_s=clock_skew_s(answer.headers),
        )

    def self_destruct(self, provider_id: str) -> tuple[str, str]:
        return "DELETE", self._http.base_url + self._machine_path(provider_id)

    async def close(self) -> None:
        await self._http.close()

    def _machine_path(self, provider_id: str, verb: str = "") -> str:
        """Raises MachineNotFound for what cannot be an id, so that nothing odd gets into a path."""
        if not provider_id.isdigit():
            raise MachineNotFound(
                f"'{clean(provider_id, 60)}' is no machine of {self._source}.", provider=self.name, operation="address"
            )
        return f"/api/v0/instances/{verb}{provider_id}/"

    async def _all_pages(self) -> tuple[list[Any], int | None]:
        """(rows of all pages by rising id, how many there are according to the last page)."""
        rows: list[Any] = []
        params = {
            "limit": str(PAGE),
            "order_by": '[{"col":"id","dir":"asc"}]',
            "select_filters": "{}",
            "select_cols": '["*"]',
        }
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = await self._http.call(LIST, "/api/v1/instances/", params=params)
            rows += self._rows(answer, "instances", LIST)
            token = answer.body.get("next_token")
            if not token:
                total = answer.body.get("total_instances")
                return rows, total if isinstance(total, int) else None
            if not isinstance(token, str) or token in seen:
                break
            seen.add(token)
            params = {**params, "after_token": token}
        self._no_sense(LIST)

    async def _has_key(self, blob: str) -> bool:
        """Whether the account holds a key with this base64 part, whatever field the row has it in."""
        answer = await self._http.call(KEYS, "/api/v0/ssh/")
        return any(blob in text for text in _strings(answer.body))

    async def _may_fetch(self, url: str) -> bool:
        """Our own base, or https on a public address: an answer must not make us call into our own network."""
        there, base = urlsplit(url), urlsplit(self._http.base_url)
        if (there.scheme, there.netloc) == (base.scheme, base.netloc):
            return True
        if there.scheme != "https" or base.scheme != "https" or not there.hostname or there.username is not None:
            return False
        try:
            found = await asyncio.get_running_loop().getaddrinfo(there.hostname, 443, type=socket.SOCK_STREAM)
        except OSError:
            return False
        return bool(found) and all(ipaddress.ip_address(entry[4][0]).is_global for entry in found)

    def _rows(self, answer: Answer, field: str, endpoint: Endpoint) -> list[Any]:
        rows = answer.body.get(field) if isinstance(answer.body, dict) else None
        if not isinstance(rows, list):
            self._no_sense(endpoint)
        return rows

    def _no_sense(self, endpoint: Endpoint) -> NoReturn:
        raise Unexpected(
            f"{self._source} answered '{endpoint.name}' in a form that we do not know.",
            provider=self.name,
            operation=endpoint.name,
            outcome_unknown=False,
        )

    def _refine(self, endpoint: Endpoint, answer: Answer) -> ProviderError | None:
        """What Vast's own words mean, before the status is judged."""
        body = answer.body if isinstance(answer.body, dict) else {}
        said = f"{body.get('error') or ''} {body.get('msg') or ''}".casefold()
        where: dict[str, Any] = {"provider": self.name, "operation": endpoint.name}
        if answer.status < 400 and body.get("success") is not False:
            return None
        if answer.status == 404 and "invalid user key" in answer.words.casefold():
            return AuthRefused(
                f"{self._source} does not accept the key.",
                hint="Set a valid key: understudy secrets set vast.",
                **where,
            )
        if answer.status == 429 and "search_quota_exceeded" in said:
            return self._quota(endpoint, answer)
        if endpoint is CREATE and answer.status < 500 and answer.status not in (401, 429):
            return self._refused_order(answer, said, where)
        if answer.status < 500 and any(word in said for word in _GONE):
            return MachineNotFound(f"{self._source} knows no such machine.", **where)
        if answer.status < 400:
            return Unexpected(
                f"{self._source} refused '{endpoint.name}': {answer.words}.", **where, outcome_unknown=False
            )
        return None

    def _refused_order(self, answer: Answer, said: str, where: dict[str, Any]) -> ProviderError | None:
        """A refused order. One that names a contract left it behind, stopped and billing its disk."""
        left = _contract_of(answer)
        sentence = f"{self._source} refused the order: {answer.words or f'HTTP {answer.status}'}."
        if left is not None:
            return NoCapacity(sentence, left_behind=left, **where)
        if any(word in said for word in _NO_CREDIT):
            return QuotaReached(sentence, hint="Add credit at the provider, or take a cheaper offer.", **where)
        if answer.status == 410 or any(word in said for word in _NO_CAPACITY):
            return NoCapacity(sentence, **where)
        if answer.is_json and answer.status != 403:
            return Unexpected(sentence, outcome_unknown=False, **where)
        return None

    def _quota(self, endpoint: Endpoint, answer: Answer) -> RateLimited:
        """The daily search quota: nothing is sent again before the time that the answer names (else an hour)."""
        try:
            now = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            now = self._clock()
        try:
            wait_s = max(1.0, float(answer.headers["x-ratelimit-reset"]) - now)
        except (KeyError, ValueError):
            wait_s = 3600.0
        sentence = f"{self._source}'s search quota for today is used up."
        self._http.close_until(endpoint, wait_s, sentence)
        return RateLimited(
            sentence,
            provider=self.name,
            operation=endpoint.name,
            retry_after_s=wait_s,
            hint="Prices shown are the last ones; machines are not concerned.",
        )


def _search_body(*, bid: bool) -> dict[str, Any]:
    return {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "type": "bid" if bid else "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": OFFER_LIMIT,
        "allocated_storage": 0,
    }


def _rent_body(request: RentRequest) -> dict[str, Any]:
    """The order as the official client sends it. `cancel_unavail`: no contract that waits for a GPU taken meanwhile."""
    return {
        "client_id": "me",
        "image": request.image or DEFAULT_IMAGE,
        "env": request.env,
        "price": request.price_usd_per_hour,
        "disk": request.disk_gb,
        "label": request.label,
        "extra": None,
        "onstart": request.onstart or None,
        "image_login": None,
        "python_utf8": False,
        "lang_utf8": False,
        "use_jupyter_lab": False,
        "jupyter_dir": None,
        "force": False,
        "cancel_unavail": True,
        "template_hash_id": None,
        "user": None,
        "runtype": "ssh_direc ssh_proxy",
    }


def _contract_of(answer: Answer) -> str | None:
    number = answer.body.get("new_contract") if isinstance(answer.body, dict) else None
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    return number if isinstance(number, str) and number.isdigit() else None


def _strings(value: Any) -> list[str]:
    """Every string in decoded JSON, also inside a string that is JSON itself (Vast sends key lists so)."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in _strings(each)]
    return []


__all__ = ["VAST_URL", "Vast"]
