"""The clouds' HTTP by itself: time-outs, retries, limits, one key per call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from core.domain.errors import Unavailable, Unexpected
from core.providers import http
from core.providers.http import Answer, Endpoint, Pacing, ProviderHttp, retry_after_s
from tests.providers.recorded_api import Api, Reply, running

READ = Endpoint("read", "GET", 0.0, timeout_s=0.2)
CHANGE = Endpoint("change", "PUT", 0.0, idempotent=False, changes=True, timeout_s=0.2)
AGAIN = Endpoint("again", "DELETE", 0.0, changes=True, timeout_s=0.2)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running(Api()) as served:
        yield served


def _client(api: Api, key: list[str] | None = None) -> ProviderHttp:
    keys = key or ["k"]
    return ProviderHttp(
        provider="cloud",
        title="Cloud",
        base_url=api.url,
        headers=lambda: {"authorization": keys[-1]},
        refine=lambda endpoint, answer: None,
        pacing=Pacing(scale=0.0),
    )


@pytest.mark.parametrize(("endpoint", "calls", "unknown"), [(READ, 1, False), (CHANGE, 1, True), (AGAIN, 4, True)])
async def test_a_time_out_says_whether_something_may_have_happened(
    api: Api, endpoint: Endpoint, calls: int, unknown: bool
) -> None:
    api.on("/x", Reply(200, {}, delay_s=5.0))
    client = _client(api)
    with pytest.raises(Unavailable, match="in time") as caught:
        await client.call(endpoint, "/x")
    await client.close()
    assert caught.value.outcome_unknown is unknown
    assert len(api.calls) == calls


async def test_the_key_is_asked_for_at_every_call(api: Api) -> None:
    api.on("/x", Reply(200, {}))
    keys = ["one"]
    client = _client(api, keys)
    await client.call(READ, "/x")
    keys.append("two")
    await client.call(READ, "/x")
    await client.close()
    assert [call.headers["authorization"] for call in api.calls] == ["one", "two"]


async def test_an_answer_without_end_is_cut(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1000)
    api.on("/x", Reply(200, ["x" * 5000]))
    client = _client(api)
    with pytest.raises(Unexpected, match="more than"):
        await client.call(READ, "/x")
    await client.close()


async def test_an_answer_that_cannot_be_unpacked_is_unexpected(api: Api) -> None:
    api.on("/x", Reply(200, {"a": 1}, {"Content-Encoding": "gzip"}))
    client = _client(api)
    with pytest.raises(Unexpected, match="cannot be read"):
        await client.call(READ, "/x")
    await client.close()


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    later = format_datetime(now + timedelta(seconds=40), usegmt=True)
    date = format_datetime(now, usegmt=True)
    assert retry_after_s(httpx.Headers({"retry-after": "7"})) == 7.0
    assert retry_after_s(httpx.Headers({"retry-after": later, "date": date})) == 40.0
    assert retry_after_s(httpx.Headers({"retry-after": "soon"})) is None
    assert retry_after_s(httpx.Headers({})) is None


def test_what_a_provider_said_is_harmless_and_short() -> None:
    said = Answer(400, httpx.Headers(), b"", {"msg": "no\x1b[2J\nway " + "x" * 500}, is_json=True).words
    assert said.isprintable()
    assert len(said) <= 200
    assert Answer(200, httpx.Headers({"content-type": "text/html"}), b"hello").words == ""
