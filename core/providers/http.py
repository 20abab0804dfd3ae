"""The clouds' HTTP: pacing, time-outs, retries, errors. Its one rule: only an idempotent call is sent twice.

Every failure leaves here as a leaf of domain/errors.py. A provider's file brings its table of endpoints and, through
`refine`, what its own error words mean; everything else is mapped once, below.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx
import msgspec

from core.domain.errors import AuthRefused, MachineNotFound, ProviderError, RateLimited, Unavailable, Unexpected
from core.domain.units import clean

CONNECT_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 64 * 1024 * 1024  # a whole market of 3000 offers is about 9 MB
MAX_RETRY_AFTER_S = 60.0  # longer waits are the caller's to plan
ATTEMPTS = 4  # the first and three more, as the clouds' own SDKs do
FIRST_BACKOFF_S = 0.5
PACING_MARGIN = 1.05  # the provider measures at its end: jitter on the way may bring two calls closer together
_RETRIED_STATUS = frozenset({429, 502, 503, 504})

# Before anything was sent: the call cannot have taken effect.
NOTHING_SENT: tuple[type[Exception], ...] = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.InvalidURL,
    httpx.CookieConflict,
)
# Sent, or perhaps sent, and no whole answer came.
NO_ANSWER: tuple[type[Exception], ...] = (
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)
# An answer came and makes no sense, or was read wrongly.
NONSENSE: tuple[type[Exception], ...] = (
    httpx.DecodingError,
    httpx.TooManyRedirects,
    httpx.HTTPStatusError,
    httpx.StreamError,
)


@dataclass(frozen=True)
class Endpoint:
    """One kind of call. `idempotent`: may be sent again by us; `changes`: after a failure it may have taken effect."""

    name: str
    method: str
    min_interval_s: float
    idempotent: bool = True
    changes: bool = False
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back, whole. `body` is the decoded JSON, or None when it is none."""

    status: int
    headers: httpx.Headers
    content: bytes
    body: Any = None
    is_json: bool = False

    @property
    def is_page(self) -> bool:
        """Whether it is a web page: what proxies and maintenance windows answer instead of data."""
        kind = self.headers.get("content-type", "")
        return not self.is_json and ("html" in kind or self.content[:256].lstrip()[:1] == b"<")

    @property
    def words(self) -> str:
        """What the provider said about it, cleaned; empty when it said nothing readable."""
        if self.is_page:
            return ""
        if isinstance(self.body, dict):
            found = next((self.body[key] for key in ("msg", "message", "detail", "error") if self.body.get(key)), "")
            return clean(str(found), 200).rstrip(".")
        return clean(self.content[:1000].decode("utf-8", "replace"), 200).rstrip(".")


Refine = Callable[[Endpoint, Answer], ProviderError | None]


@dataclass
class _Pace:
    next_at: float = 0.0
    closed_until: float = 0.0
    why_closed: str = ""


@dataclass
class Pacing:
    """Minimum seconds between calls per endpoint. `scale` 0 turns waiting off (tests, the lab without pacing)."""

    scale: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.monotonic
    _paces: dict[str, _Pace] = field(default_factory=dict)

    def of(self, endpoint: Endpoint) -> _Pace:
        return self._paces.setdefault(endpoint.name, _Pace())

    async def turn(self, endpoint: Endpoint) -> None:
        """Waits for this endpoint's next slot; slots are given out in the order of asking."""
        pace, now = self.of(endpoint), self.now()
        slot = max(now, pace.next_at)
        pace.next_at = slot + endpoint.min_interval_s * PACING_MARGIN * self.scale
        if slot > now:
            await self.sleep(slot - now)

    async def back_off(self, attempt: int) -> None:
        await self.sleep(FIRST_BACKOFF_S * 2.0**attempt * self.scale)


class ProviderHttp:
    """One provider's HTTP. `refine` sees every answer first and may turn it into an error of its own."""

    def __init__(
        self,
        *,
        provider: str,
        title: str,
        base_url: str,
        headers: Callable[[], dict[str, str]],
        refine: Refine,
        pacing: Pacing,
    ) -> None:
        self.provider = provider
        self.title = title
        self.base_url = base_url.rstrip("/")
        self._headers = headers
        self._refine = refine
        self._pacing = pacing
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def call(
        self, endpoint: Endpoint, path: str, *, json: Any = None, params: dict[str, str] | None = None
    ) -> Answer:
        """A successful answer with JSON in it. Raises ProviderError leaves only."""
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1 or not endpoint.idempotent
            self._check_open(endpoint)
            await self._pacing.turn(endpoint)
            try:
                answer = await self._send(endpoint, path, json, params)
            except (*NO_ANSWER, *NOTHING_SENT) as error:
                if last or not _worth_another_try(endpoint, error):
                    raise self._lost(endpoint, error) from error
                await self._pacing.back_off(attempt)
                continue
            except NONSENSE as error:
                self._unexpected(endpoint, f"{self.title} sent an answer that cannot be read", error)
            problem = self._problem(endpoint, answer)
            if problem is None:
                return answer
            if last or answer.status not in _RETRIED_STATUS or not await self._may_retry(problem, attempt):
                raise problem
        raise AssertionError("the last attempt returns or raises")

    async def get_text(self, url: str, *, limit: int, timeout_s: float, operation: str) -> tuple[int, str]:
        """(status, at most `limit` bytes as text) of a URL that the provider named; sent without the key."""
        client = await self._open()
        try:
            async with client.stream("GET", url, timeout=timeout_s) as response:
                return response.status_code, (await _read(response, limit))[0].decode("utf-8", "replace")
        except (*NO_ANSWER, *NOTHING_SENT, *NONSENSE) as error:
            raise Unavailable(
                f"{self.title} did not hand out its answer ({type(error).__name__}).",
                provider=self.provider,
                operation=operation,
                outcome_unknown=False,
            ) from error

    def close_until(self, endpoint: Endpoint, after_s: float, why: str) -> None:
        """Refuses this endpoint's calls from now on, without sending them, for `after_s` seconds."""
        pace = self._pacing.of(endpoint)
        pace.closed_until, pace.why_closed = self._pacing.now() + after_s, why

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                secure = self.base_url.startswith("https://")
                self._client = httpx.AsyncClient(
                    verify=await _tls() if secure else False,
                    trust_env=False,
                    follow_redirects=False,
                    timeout=httpx.Timeout(30.0, connect=CONNECT_TIMEOUT_S),
                    limits=httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=20.0),
                )
            return self._client

    async def _send(self, endpoint: Endpoint, path: str, json: Any, params: dict[str, str] | None) -> Answer:
        client = await self._open()
        headers = {"accept": "application/json", "user-agent": "understudy", **self._headers()}
        content = None if json is None else msgspec.json.encode(json)
        if content is not None:
            headers["content-type"] = "application/json"
        timeout = httpx.Timeout(endpoint.timeout_s, connect=CONNECT_TIMEOUT_S)
        url = self.base_url + path
        async with client.stream(
            endpoint.method, url, content=content, params=params, headers=headers, timeout=timeout
        ) as response:
            data, whole = await _read(response, MAX_BODY_BYTES)
        if not whole:
            self._unexpected(endpoint, f"{self.title} sent more than {MAX_BODY_BYTES // 2**20} MiB", None)
        try:
            body = await _decode(data)
        except msgspec.DecodeError:
            return Answer(response.status_code, response.headers, data)
        return Answer(response.status_code, response.headers, data, body, is_json=True)

    def _check_open(self, endpoint: Endpoint) -> None:
        pace = self._pacing.of(endpoint)
        left_s = pace.closed_until - self._pacing.now()
        if left_s > 0:
            raise RateLimited(
                pace.why_closed, provider=self.provider, operation=endpoint.name, retry_after_s=round(left_s, 1)
            )

    async def _may_retry(self, problem: ProviderError, attempt: int) -> bool:
        if not isinstance(problem, RateLimited):
            await self._pacing.back_off(attempt)
            return True
        if problem.retry_after_s is None:
            await self._pacing.back_off(attempt + 1)
            return True
        if problem.retry_after_s > MAX_RETRY_AFTER_S:
            return False
        await self._pacing.sleep(problem.retry_after_s)
        return True

    def _problem(self, endpoint: Endpoint, answer: Answer) -> ProviderError | None:
        refined = self._refine(endpoint, answer)
        if refined is not None:
            return refined
        if 200 <= answer.status < 300 and answer.is_json:
            return None
        return self._status_error(endpoint, answer)

    def _status_error(self, endpoint: Endpoint, answer: Answer) -> ProviderError:
        """What an answer's status means when the provider's own words did not say more."""
        where = {"provider": self.provider, "operation": endpoint.name}
        status, said = answer.status, f": {answer.words}." if answer.words else "."
        if status == 429:
            wait_s = retry_after_s(answer.headers)
            if wait_s is not None and wait_s > MAX_RETRY_AFTER_S:
                self.close_until(endpoint, wait_s, f"{self.title} asked for a pause of {wait_s:.0f} s.")
            return RateLimited(
                f"{self.title} wants fewer calls of '{endpoint.name}'{said}", retry_after_s=wait_s, **where
            )
        if status >= 500 or status == 408:
            page = "a web page instead of data" if answer.is_page else "an error of its own"
            return Unavailable(
                f"{self.title} answered with {page} (HTTP {status}){said}", outcome_unknown=endpoint.changes, **where
            )
        if answer.is_page and status != 401:
            return Unexpected(
                f"{self.title} answered with a web page instead of data (HTTP {status}).",
                outcome_unknown=endpoint.changes and status < 400,
                hint="Something between here and the provider answers in its place: a portal, a proxy, or maintenance.",
                **where,
            )
        if status in (401, 403):
            why = "does not accept the key" if status == 401 else "says that the key lacks a permission"
            return AuthRefused(
                f"{self.title} {why} for '{endpoint.name}'{said}",
                hint=f"Set a valid key: understudy secrets set {self.provider}.",
                **where,
            )
        if status in (404, 410) and answer.is_json:
            return MachineNotFound(f"{self.title} knows nothing of this{said}", **where)
        return Unexpected(
            f"{self.title} answered '{endpoint.name}' with HTTP {status}{said}",
            outcome_unknown=endpoint.changes and status < 400,
            **where,
        )

    def _lost(self, endpoint: Endpoint, error: Exception) -> Unavailable:
        sent = not isinstance(error, NOTHING_SENT)
        if isinstance(error, httpx.TimeoutException):
            what = "did not answer in time"
        else:
            what = "broke off without an answer" if sent else "cannot be reached"
        return Unavailable(
            f"{self.title} {what} ({endpoint.name}).",
            provider=self.provider,
            operation=endpoint.name,
            hint="Check the network; what is rented goes on running and is looked at again by itself.",
            outcome_unknown=sent and endpoint.changes,
        )

    def _unexpected(self, endpoint: Endpoint, sentence: str, cause: Exception | None) -> NoReturn:
        raise Unexpected(
            f"{sentence} ({endpoint.name}).",
            provider=self.provider,
            operation=endpoint.name,
            outcome_unknown=endpoint.changes,
        ) from cause


def retry_after_s(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds, given as a number or a date; None when absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text).timestamp()
        since = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
    except (TypeError, ValueError):
        return None
    return max(0.0, until - since)


def clock_skew_s(headers: httpx.Headers) -> float | None:
    """The other clock minus ours by its `Date`, which has whole seconds; None when it gave none."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def _worth_another_try(endpoint: Endpoint, error: Exception) -> bool:
    """A slow read is asked again by whoever polls it: four time-outs in a row would only hide that it is slow."""
    if isinstance(error, httpx.TimeoutException):
        return endpoint.changes
    return not isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL))


async def _read(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the body, and whether that is all of it."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > limit:
            return b"".join(parts)[:limit], False
    return b"".join(parts), True


async def _decode(data: bytes) -> Any:
    """JSON as plain values; a big one in a thread, so that the loop keeps its beat. Raises msgspec.DecodeError."""
    if len(data) < 256 * 1024:
        return msgspec.json.decode(data)
    return await asyncio.to_thread(msgspec.json.decode, data)


_shared_tls: list[ssl.SSLContext] = []


def _make_tls() -> ssl.SSLContext:
    if not _shared_tls:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
        _shared_tls.append(context)
    return _shared_tls[0]


async def _tls() -> ssl.SSLContext:
    """The one TLS context: reading the certificates takes tens of milliseconds, so once and in a thread."""
    return await asyncio.to_thread(_make_tls)
