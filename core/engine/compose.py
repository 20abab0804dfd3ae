"""The composition root: the only place that knows everybody. It builds, wires and takes apart; it decides nothing.

Order: lock, store, clients, context, socket, DBOS (whose recovery begins at once), services, serving.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from core import labfile, secrets
from core.config import Loaded, Settings
from core.domain import api
from core.domain.errors import AuthRefused, EngineError
from core.domain.events import Fact, Said
from core.domain.readings import MachineReading
from core.engine.api import Parts
from core.engine.doctor import Doctor
from core.engine.ending import Ending
from core.engine.feed import Feed
from core.engine.labfaults import LabFaults
from core.engine.once import Requests
from core.engine.renting import Renting
from core.engine.rooms import Rooms
from core.engine.tending import Tending
from core.home import Home
from core.operations.arrive import UPLINK_SETTING
from core.operations.context import Context, RentRules, fill
from core.operations.reach import Reach
from core.operations.views import AccountView, MarketView
from core.providers.base import Provider
from core.providers.vast import VAST_URL, Vast
from core.remote.ssh import make_identity
from core.services.accounts import AccountWatch
from core.services.agents import AgentWatch
from core.services.expiry import ExpiryWatch
from core.services.keys import KeyWatch
from core.services.market import MarketWatch
from core.services.telemetry import Telemetry
from core.services.tidy import Tidy
from core.store.database import sqlite_url
from core.store.history import History
from core.store.store import Store, Tx

LAB_GRACE_S = 2.0
LAB_ACCOUNT_POLL_S = 2.0
LAB_MARKET_POLL_S = 10.0
LAB_WAIT_S = 12.0  # less than whoever started the engine waits, so that they read why


@dataclass
class Engine:
    """Everything that runs, ready to be started and to be taken apart again."""

    home: Home
    settings: Settings
    store: Store
    history: History
    context: Context
    feed: Feed
    telemetry: Telemetry
    parts: Parts
    watches: list[Callable[[], object]]


async def build(home: Home, loaded: Loaded, *, version: str, stop: Callable[[], None]) -> Engine:
    """Opens and wires all of it. Raises UnderstudyError with a sentence when something cannot be opened."""
    settings = loaded.settings
    store = Store(settings.engine.database_url or sqlite_url(home.database), clock=time.time)
    history = History(sqlite_url(home.telemetry_database))
    await asyncio.gather(store.open(), history.open())
    await _first_budget(store, settings)
    public_key = await make_identity(home.identity)
    context = await _context(home, settings, store)
    fill(context)
    feed = Feed(lambda: store.state, lambda since: store.journal(since=since, limit=5000))
    telemetry = Telemetry(history, time.time)
    requests = Requests(context)
    ending = Ending(context, requests)
    doctor = Doctor(home, context, loaded.problems, lambda: _isolation(home))
    parts = Parts(
        hello=_hello(home, context.owner, version),
        feed=feed,
        rooms=Rooms(context, feed, history, telemetry, doctor.run),
        renting=Renting(context, requests),
        ending=ending,
        tending=Tending(context, requests, ending, public_key),
        faults=LabFaults(home, store),
        stop=stop,
    )
    engine = Engine(home, settings, store, history, context, feed, telemetry, parts, [])
    _wire(engine, public_key)
    return engine


async def _context(home: Home, settings: Settings, store: Store) -> Context:
    """What operations need. The owner's id is made once per home; our best uplink is remembered over restarts."""
    providers = await _providers(home, settings)
    uplink = await store.setting(UPLINK_SETTING, lambda: "")
    context = Context(
        store=store,
        providers=providers,
        accounts={name: AccountView(time.monotonic) for name in providers},
        market=MarketView(time.monotonic),
        reach=Reach(identity=home.identity, known_hosts=home.known_hosts, clock=time.time),
        rules=_rules(settings),
        owner=await store.setting("owner", lambda: f"{random.SystemRandom().getrandbits(40):010x}"),
        clock=time.time,
        monotonic=time.monotonic,
    )
    context.uplink.saw(float(uplink) if uplink else None)
    return context


def _hello(home: Home, owner: str, version: str) -> api.Hello:
    return api.Hello(
        protocol=api.PROTOCOL,
        protocol_oldest=api.PROTOCOL_OLDEST,
        version=version,
        pid=os.getpid(),
        started_at=time.time(),
        home=str(home.state),
        lab=home.is_lab,
        owner=owner,
    )


def _wire(engine: Engine, public_key: str) -> None:
    """Who is told of what, and which loops run."""
    feed, context, settings = engine.feed, engine.context, engine.settings

    def told(machine_id: str, reading: MachineReading) -> None:
        engine.telemetry.take(machine_id, reading)
        feed.reading(machine_id, reading)

    def gone(fact: Fact) -> None:
        if fact.kind in ("machine_destroyed", "machine_failed") and fact.machine is not None:
            feed.forget(fact.machine)
            engine.telemetry.forget(fact.machine)
            context.reach.forget(fact.machine)

    engine.store.listen(feed.fact)
    engine.store.listen(gone)
    jitter = random.random
    lab = engine.home.is_lab
    for name, provider in context.providers.items():
        market = MarketWatch(
            provider,
            context.market,
            engine.history,
            LAB_MARKET_POLL_S if lab else settings.vast.poll_s,
            context.clock,
            jitter,
            feed.market,
        )
        account = AccountWatch(
            provider,
            context.accounts[name],
            context,
            LAB_ACCOUNT_POLL_S if lab else settings.vast.account_poll_s,
            jitter,
            lab,
        )
        keys = KeyWatch(provider, public_key)
        engine.watches += [market.run, account.run, keys.run]
        engine.parts.tending.hurry += [market.hurried.set, account.hurried.set, keys.hurried.set]
    engine.watches += [
        engine.parts.tending.requests.run,
        Tidy(context).run,
        AgentWatch(context, told).run,
        engine.telemetry.run,
        ExpiryWatch(context, engine.parts.ending.expire).run,
    ]


async def _first_budget(store: Store, settings: Settings) -> None:
    """The limits of a new home come from its settings; from then on the journal has them."""
    wanted = settings.budget

    def work(tx: Tx) -> None:
        if tx.state.seq == 0:
            detail = {"usd_per_hour": wanted.usd_per_hour, "usd_per_month": wanted.usd_per_month}
            tx.say(Said(kind="budget_set", detail=detail | {"machines": wanted.machines}))

    await store.write(work)


def _rules(settings: Settings) -> RentRules:
    rent = settings.rent
    return RentRules(
        image=rent.image,
        attempts=rent.attempts,
        boot_timeout_s=rent.boot_timeout_s,
        ssh_timeout_s=rent.ssh_timeout_s,
        disk_tolerance=rent.disk_tolerance,
        net_tolerance=rent.net_tolerance,
        judge_network=rent.judge_network,
    )


async def _providers(home: Home, settings: Settings) -> dict[str, Provider]:
    if home.is_lab:
        return {"vast": await _lab_vast(home, settings)}
    if not settings.vast.enabled:
        return {}
    url = settings.vast.base_url or VAST_URL
    return {"vast": Vast(base_url=url, api_key=lambda: _key(home, "vast"), simulated=False)}


async def _lab_vast(home: Home, settings: Settings) -> Vast:
    deadline = time.monotonic() + LAB_WAIT_S
    while (lab := labfile.read(home)) is None:
        if time.monotonic() > deadline:
            raise EngineError("This is a lab home and its lab is not running.", hint="Start it: understudy lab up.")
        await asyncio.sleep(0.05)
    return Vast(
        base_url=lab.endpoints["vast"],
        api_key=lambda: _key(home, "vast"),
        simulated=True,
        pacing_scale=0.0 if settings.lab.pacing == "off" else 1.0,
        absence_grace_s=LAB_GRACE_S,
    )


def _key(home: Home, name: str) -> str:
    secret = secrets.get(home, name)
    if secret is None and home.is_lab:  # its key is the running lab's token
        raise AuthRefused("The lab is not running: understudy lab up.", provider=name, operation="sign in")
    if secret is None:
        raise AuthRefused(
            f"No key for {name} is set: understudy secrets set {name}.",
            provider=name,
            operation="sign in",
        )
    return secret.reveal()


def _isolation(home: Home) -> str | None:
    lab = labfile.read(home)
    return None if lab is None else lab.isolation
