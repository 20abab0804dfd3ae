"""The Vast.ai client against a real HTTP server on loopback that answers as the recorded API does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from core.domain.errors import (
    AuthRefused,
    MachineNotFound,
    NoCapacity,
    QuotaReached,
    RateLimited,
    Unavailable,
    Unexpected,
)
from core.providers import http as provider_http
from core.providers.base import RentRequest
from core.providers.vast import Vast
from tests.providers.recorded_api import INSTANCE, OFFER, PAGE, Api, Reply, running


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running(Api()) as served:
        yield served


@pytest.fixture
async def vast(api: Api) -> AsyncIterator[Vast]:
    client = Vast(base_url=api.url, api_key=lambda: "k3y", simulated=False, pacing_scale=0.0, clock=lambda: 1000.0)
    yield client
    await client.close()


def _request(**changes: Any) -> RentRequest:
    wanted: dict[str, Any] = {"offer_id": "21874411", "label": "understudy/me/t1", "image": "img", "disk_gb": 40.0}
    return RentRequest(**{**wanted, **changes})


async def test_offers_come_in_our_units_and_a_broken_row_is_counted(api: Api, vast: Vast) -> None:
    rows = [{**OFFER, "id": number} for number in range(200)]
    rows[77] = {**OFFER, "gpu_ram": "twelve"}
    api.on(
        "/api/v0/bundles/",
        Reply(200, {"offers": rows}),
        Reply(200, {"offers": [{**OFFER, "gpu_name": "\x1b]52;c;x\x07RTX"}]}),
    )
    page = await vast.offers()
    assert (len(page.offers), page.rows_skipped) == (200, 1)
    first, bid = page.offers[0], page.offers[-1]
    assert (first.id, first.kind, first.usd_per_hour, first.vram_mib, first.gpu_count) == (
        "0",
        "on-demand",
        0.3607,
        24564,
        2,
    )
    assert (first.region, first.country, first.host_id, first.machine_ref) == ("Quebec", "CA", "92240", "30114")
    assert (first.ram_mib, first.verified, first.observed_at, first.inet_down_mbps) == (64420, True, 1000.0, 902.7)
    assert first.all_in_usd_per_hour(40) == pytest.approx(0.3607 + 0.2 * 40 / 30 / 24)
    assert (bid.id, bid.kind, bid.usd_per_hour) == ("21874411-bid", "spot", 0.1607)
    assert "\x1b" not in bid.gpu
    sent = api.sent("/api/v0/bundles/")
    assert [(call.body["type"], call.body["limit"], call.body["rentable"]) for call in sent] == [
        ("on-demand", 3000, {"eq": True}),
        ("bid", 3000, {"eq": True}),
    ]
    assert all("verified" not in call.body and call.headers["authorization"] == "Bearer k3y" for call in sent)


async def test_an_empty_market_is_no_error(api: Api, vast: Vast) -> None:
    api.on("/api/v0/bundles/", Reply(200, {"offers": []}))
    assert (await vast.offers()).offers == []


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (
            Reply(401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
            AuthRefused,
            "does not accept",
        ),
        (
            Reply(404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
            AuthRefused,
            "does not accept",
        ),
        (Reply(404, "Invalid user key"), AuthRefused, "does not accept"),
        (Reply(403, {"success": False, "msg": "lacks user_read"}), AuthRefused, "permission"),
        (Reply(200, PAGE), Unexpected, "web page"),
        (Reply(502, PAGE), Unavailable, "web page"),
        (Reply(500, {"success": False, "error": "boom"}), Unavailable, "HTTP 500"),
        (Reply(429, "API requests too frequent"), RateLimited, "fewer calls"),
        (Reply(429, PAGE), RateLimited, "fewer calls"),
        (Reply(429, {"detail": "API requests too frequent endpoint threshold=1.0"}), RateLimited, "threshold"),
        (Reply(200, {"what": 1}), Unexpected, "form that we do not know"),
        (Reply(200, [1, 2]), Unexpected, "form that we do not know"),
        (Reply(200, "{not json"), Unexpected, "HTTP 200"),
        (Reply(302, "", {"Location": "http://127.0.0.1:9/"}), Unexpected, "HTTP 302"),
        (Reply(drop=True), Unavailable, "broke off"),
    ],
)
async def test_every_bad_answer_is_one_clean_sentence(
    api: Api, vast: Vast, reply: Reply, error: type[Exception], words: str
) -> None:
    api.on("/api/v0/bundles/", reply)
    with pytest.raises(error) as caught:
        await vast.offers()
    text = str(caught.value)
    assert words in text
    assert "<" not in text
    assert "\n" not in text


async def test_a_search_is_tried_again_after_a_gateway_error_and_after_retry_after(api: Api, vast: Vast) -> None:
    good = Reply(200, {"offers": [OFFER]})
    api.on("/api/v0/bundles/", Reply(503, PAGE), Reply(429, "slow", {"Retry-After": "0"}), Reply(drop=True), good)
    assert len((await vast.offers()).offers) == 2


async def test_a_long_retry_after_is_handed_to_the_caller_and_closes_the_endpoint(api: Api, vast: Vast) -> None:
    api.on("/api/v1/instances/", Reply(429, "slow", {"Retry-After": "120"}))
    for _ in range(2):
        with pytest.raises(RateLimited) as caught:
            await vast.machines()
        assert caught.value.retry_after_s is not None
        assert 100 < caught.value.retry_after_s <= 120
    assert len(api.calls) == 1


async def test_the_daily_search_quota_stops_the_search_until_its_reset(api: Api, vast: Vast) -> None:
    api.on("/api/v0/bundles/", Reply(429, {"error": "search_quota_exceeded"}, {"X-RateLimit-Reset": "1600"}))
    for _ in range(2):
        with pytest.raises(RateLimited, match="quota") as caught:
            await vast.offers()
        assert caught.value.retry_after_s == pytest.approx(600, abs=5)
    assert len(api.calls) == 1


async def test_rent_sends_the_order_once_and_hides_the_machines_key(api: Api, vast: Vast) -> None:
    api.on("/api/v0/asks/21874411/", Reply(200, {"success": True, "new_contract": 7, "instance_api_key": "s3cret"}))
    rented = await vast.rent(_request(offer_id="21874411-bid", price_usd_per_hour=0.2, env={"A": "b"}))
    assert (rented.provider_id, rented.own_key) == ("7", "s3cret")
    assert "s3cret" not in repr(rented)
    (call,) = api.calls
    assert (call.method, call.body["price"], call.body["runtype"]) == ("PUT", 0.2, "ssh_direc ssh_proxy")
    assert (call.body["label"], call.body["env"], call.body["disk"]) == ("understudy/me/t1", {"A": "b"}, 40.0)


async def test_a_refusal_that_leaves_a_contract_names_it(api: Api, vast: Vast) -> None:
    refusal = {"success": False, "error": "invalid_price", "msg": "bid too low", "new_contract": 99}
    api.on("/api/v0/asks/21874411/", Reply(400, refusal))
    with pytest.raises(NoCapacity) as caught:
        await vast.rent(_request(price_usd_per_hour=0.01))
    assert caught.value.left_behind == "99"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(404, {"error": "invalid_args", "msg": "error 404/3603: no_such_ask Instance type by id"}), NoCapacity),
        (Reply(410, {"error": "no_such_ask"}), NoCapacity),
        (Reply(400, {"error": "insufficient_credit", "msg": "Your account lacks credit"}), QuotaReached),
        (Reply(400, {"error": "spend_rate_limit"}), QuotaReached),
        (Reply(401, {"error": "auth_error"}), AuthRefused),
        (Reply(429, "too frequent"), RateLimited),
    ],
)
async def test_a_refused_order_is_known_to_have_done_nothing(
    api: Api, vast: Vast, reply: Reply, error: type[Exception]
) -> None:
    api.on("/api/v0/asks/21874411/", reply)
    with pytest.raises(error) as caught:
        await vast.rent(_request())
    assert not getattr(caught.value, "outcome_unknown", False)
    assert len(api.calls) == 1


@pytest.mark.parametrize("reply", [Reply(drop=True), Reply(502, PAGE), Reply(200, PAGE), Reply(200, {"success": True})])
async def test_an_unclear_order_is_sent_once_and_says_that_it_is_unclear(api: Api, vast: Vast, reply: Reply) -> None:
    api.on("/api/v0/asks/21874411/", reply)
    with pytest.raises((Unavailable, Unexpected)) as caught:
        await vast.rent(_request())
    assert caught.value.outcome_unknown
    assert len(api.calls) == 1


async def test_nothing_was_sent_when_nobody_listens() -> None:
    async with running(Api()) as api:
        url = api.url
    client = Vast(base_url=url, api_key=lambda: "k", simulated=True, pacing_scale=0.0)
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        await client.rent(_request())
    await client.close()
    assert not caught.value.outcome_unknown


async def test_the_whole_account_is_listed_page_by_page(api: Api, vast: Vast) -> None:
    def page(ids: range, token: str | None) -> Reply:
        rows: list[Any] = [{**INSTANCE, "id": number} for number in ids]
        return Reply(200, {"success": True, "instances": rows, "total_instances": 30, "next_token": token})

    api.on("/api/v1/instances/", page(range(25), "t1"), page(range(25, 30), None))
    listing = await vast.machines()
    assert [m.provider_id for m in listing.machines] == [str(n) for n in range(30)]
    assert "after_token=t1" in api.calls[1].query
    one = listing.machines[0]
    assert (one.state, one.label, one.country, one.kind) == ("running", "understudy/me/t1", "US", "on-demand")
    assert [(a.host, a.port, a.via) for a in one.addresses] == [
        ("203.0.113.9", 41022, "direct"),
        ("ssh5.vast.ai", 10456, "proxy"),
    ]


async def test_a_listing_that_may_miss_a_machine_is_read_again_and_then_refused(api: Api, vast: Vast) -> None:
    short = Reply(200, {"instances": [INSTANCE], "total_instances": 2, "next_token": None})
    whole = Reply(200, {"instances": [INSTANCE, {**INSTANCE, "id": 8}], "total_instances": 2, "next_token": None})
    api.on("/api/v1/instances/", short, whole)
    assert len((await vast.machines()).machines) == 2
    api.on("/api/v1/instances/", short)
    with pytest.raises(Unavailable, match="fewer"):
        await vast.machines()


async def test_a_page_that_fails_fails_the_listing(api: Api, vast: Vast) -> None:
    first = Reply(200, {"instances": [INSTANCE], "total_instances": 2, "next_token": "x"})
    api.on("/api/v1/instances/", first, Reply(500, "boom"))
    with pytest.raises(Unavailable):
        await vast.machines()
    api.on("/api/v1/instances/", first)
    with pytest.raises(Unexpected):
        await vast.machines()


async def test_an_unreadable_machine_is_counted(api: Api, vast: Vast) -> None:
    rows = [INSTANCE, {**INSTANCE, "id": "?"}, {"id": 5}, "row"]
    api.on("/api/v1/instances/", Reply(200, {"instances": rows, "total_instances": 4, "next_token": None}))
    listing = await vast.machines()
    assert ([m.provider_id for m in listing.machines], listing.rows_skipped) == (["31200457", "5"], 2)


async def test_addresses_of_a_jupyter_image_and_of_nonsense(api: Api, vast: Vast) -> None:
    rows = [
        {**INSTANCE, "image_runtype": "jupyter_direc ssh_direc ssh_proxy", "ports": None},
        {**INSTANCE, "id": 2, "public_ipaddr": "-oProxyCommand=x", "ssh_host": "a b", "ssh_port": 70000},
        {**INSTANCE, "id": 3, "actual_status": "loading"},
    ]
    api.on("/api/v1/instances/", Reply(200, {"instances": rows, "total_instances": 3, "next_token": None}))
    one, two, three = (await vast.machines()).machines
    assert [(a.port, a.via) for a in one.addresses] == [(10457, "proxy")]
    assert two.addresses == three.addresses == ()


async def test_destroy_is_silent_when_it_is_gone_and_is_retried(api: Api, vast: Vast) -> None:
    gone = Reply(404, {"success": False, "error": "no_such_instance", "msg": "gone"})
    api.on("/api/v0/instances/7/", Reply(503, PAGE), Reply(429, "slow"), gone)
    await vast.destroy("7")
    assert [call.method for call in api.calls] == ["DELETE"] * 3
    api.on("/api/v0/instances/7/", Reply(200, {"success": False, "error": "no_such_instance"}))
    await vast.destroy("7")


@pytest.mark.parametrize("reply", [Reply(404, PAGE), Reply(404, {"msg": "Invalid user key"}), Reply(401, {})])
async def test_destroy_never_takes_another_404_for_done(api: Api, vast: Vast, reply: Reply) -> None:
    api.on("/api/v0/instances/7/", reply)
    with pytest.raises((Unexpected, AuthRefused)):
        await vast.destroy("7")


async def test_start_stop_and_change_bid(api: Api, vast: Vast) -> None:
    api.on("/api/v0/instances/7/", Reply(200, {"success": True}))
    api.on("/api/v0/instances/bid_price/7/", Reply(200, {"success": True}))
    await vast.start("7")
    await vast.stop("7")
    await vast.change_bid("7", 0.25)
    assert [call.body for call in api.calls] == [
        {"state": "running"},
        {"state": "stopped"},
        {"client_id": "me", "price": 0.25},
    ]
    with pytest.raises(MachineNotFound):
        await vast.start("9")
    with pytest.raises(MachineNotFound):
        await vast.start("../users")


async def test_logs_are_polled_for_and_cleaned(api: Api, vast: Vast) -> None:
    api.on("/api/v0/instances/request_logs/7/", Reply(200, {"success": True, "result_url": api.url + "/log"}))
    api.on("/log", Reply(403, "wait"), Reply(404, "wait"), Reply(200, "one\n\x1b[31mtwo\nthree"))
    assert await vast.logs("7", 2) == "·[31mtwo\nthree"
    assert "authorization" not in api.sent("/log")[0].headers


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://127.0.0.1:1/x", "file:///etc/passwd", "https://127.0.0.1/x", "//x", ""]
)
async def test_logs_elsewhere_are_refused(api: Api, vast: Vast, url: str) -> None:
    api.on("/api/v0/instances/request_logs/7/", Reply(200, {"success": True, "result_url": url}))
    with pytest.raises(Unexpected, match="not its own"):
        await vast.logs("7", 2)


async def test_a_key_is_added_once(api: Api, vast: Vast) -> None:
    have = [{"id": 1, "public_key": "ssh-ed25519 AAAAone me"}]
    more = [*have, {"id": 2, "key": "ssh-ed25519 AAAA/two us"}]
    api.on("/api/v0/ssh/", Reply(200, have), Reply(200, {"success": True}), Reply(200, {"ssh_keys": json.dumps(more)}))
    await vast.authorise_key("ssh-ed25519 AAAA/two us")
    await vast.authorise_key("ssh-ed25519 AAAA/two us\n")
    assert [call.method for call in api.calls] == ["GET", "POST", "GET"]
    assert api.calls[1].body == {"ssh_key": "ssh-ed25519 AAAA/two us"}


async def test_account_and_self_destruct(api: Api, vast: Vast) -> None:
    api.on("/api/v0/users/current/", Reply(200, {"id": 1, "email": "a@b.invalid", "credit": 12.5}))
    found = await vast.account()
    assert (found.credit_usd, found.name) == (12.5, "a@b.invalid")
    assert vast.self_destruct("7") == ("DELETE", f"{api.url}/api/v0/instances/7/")


async def test_calls_of_one_endpoint_keep_their_distance() -> None:
    now = 0.0
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pacing = provider_http.Pacing(sleep=sleep, now=lambda: now)
    endpoint = provider_http.Endpoint("create", "PUT", 4.0)
    other = provider_http.Endpoint("list", "GET", 1.0)
    for _ in range(3):
        await pacing.turn(endpoint)
    await pacing.turn(other)
    assert waits == pytest.approx([4.2, 8.4])


def test_every_error_class_of_the_http_client_is_mapped() -> None:
    mapped = (*provider_http.NOTHING_SENT, *provider_http.NO_ANSWER, *provider_http.NONSENSE)
    leaves = [
        one
        for one in vars(httpx).values()
        if isinstance(one, type) and issubclass(one, Exception) and not _is_branch(one)
    ]
    assert len(leaves) > 15
    assert [one.__name__ for one in leaves if not issubclass(one, mapped)] == []


def _is_branch(one: type) -> bool:
    return any(sub.__module__.startswith("httpx") for sub in one.__subclasses__()) and one is not httpx.StreamError


def test_the_key_is_in_no_repr() -> None:
    client = Vast(base_url="http://127.0.0.1:1", api_key=lambda: "k3y", simulated=True)
    assert "k3y" not in repr(client) + repr(vars(client)) + repr(vars(client._http))
