"""The leak harness: engines killed with -9 while machines are rented and given back, judged from the lab's world.

    python -m tests.bench.leaks --trials 500 [--lanes 4] [--seed 1] [--no-sweep]

A trial: two to four `up` and some `down` through the real socket, faults of the provider for parts of the time, two
kills (at a random moment, or aimed into a call under way), then all faults end. When the engine has come to rest, the
account must hold exactly what it calls live; after `down --all` it must hold nothing; and no token was rented twice.
One rule: with the sweep taken out (`--no-sweep`) the same harness must find leaks, or it proves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from core.domain import api
from core.domain.errors import EngineError, UnderstudyError
from core.domain.workspaces import UpSpec
from tests.bench.leaks_engine import GRACE_S
from tests.bench.leaks_lane import Lane
from tests.bench.wire import CREATE, DESTROY
from tests.lab.running_lab import RunningLab

TRIALS_PER_HOME = 20  # a journal as an operator has it after some days, not an ever slower one
REST_LIMIT_S = 90.0
BOOT_S = 0.2
UNSETTLED = frozenset({"asked", "booting", "checking", "destroying"})
LIVE = frozenset({"ready", "lost", "stopped"})
GPUS = ("4090", "3090", "a100", "h100", "l40s", "5090")
SLOW = 6.0  # how much longer calls take while a kill is aimed at one


class Tally(Counter[str]):
    """What was counted; `wrong` are sentences about trials that broke a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def blame(self, what: str, count: int, sentence: str) -> None:
        if count:
            self[what] += count
            self.wrong.append(sentence)


async def trial(lane: Lane, number: int, tally: Tally) -> None:
    """One trial; what it finds goes into `tally`."""
    rng = lane.rng
    await faults(lane)
    names = [f"t{number}-{i}" for i in range(rng.randint(2, 4))]
    intents = [asyncio.create_task(rent_and_retire(lane, name)) for name in names]
    try:
        for _ in range(2):
            aim = rng.choice(("any", CREATE, DESTROY))
            lane.kill(await moment(lane, aim))
            await lane.start()
        await lane.serving()
        await asyncio.gather(*intents)
    finally:
        for task in intents:
            task.cancel()
    await lane.heal()
    if lane.sweep:
        await rest(lane)
        live = await live_tokens(lane)
        tally["live"] += len(live)
        await judge(lane, number, tally, live)
        await down_all(lane, number)
        await rest(lane)
    else:
        await down_all(lane, number)
        await operations_end(lane)
        await asyncio.sleep(3 * GRACE_S)
    await judge(lane, number, tally, set())
    tally["trials"] += 1


async def faults(lane: Lane) -> None:
    """Each with its own chance and for a part of the trial only."""
    rng = lane.rng

    def for_s() -> float:
        return rng.uniform(0.5, 2.5)

    error = {"probability": 0.3} | ({"answer": "break"} if rng.random() < 0.5 else {})
    await lane.fault("created-but-error", for_s(), **error)
    if rng.random() < 0.6:
        await lane.fault("list-lag", for_s(), lag_s=rng.uniform(0.1, GRACE_S / 2))
    if rng.random() < 0.4:
        await lane.fault("api-500", for_s(), probability=0.15, endpoint="create,list,destroy")
    if rng.random() < 0.4:
        await lane.fault("api-timeout", for_s(), probability=0.1, hold_s=0.3, endpoint="create,list,destroy")


async def rent_and_retire(lane: Lane, name: str) -> None:
    """One `up`, and for half of them a `down` some time later; asked again, with the same id, while nobody answers."""
    rng = lane.rng
    await asyncio.sleep(rng.uniform(0.0, 0.6))
    spec = UpSpec(gpu=rng.choice(GPUS), kind="spot" if rng.random() < 0.25 else "on-demand")
    await insist(lambda: lane.client.up(api.UpIntent(operation=f"up-{name}", name=name, spec=spec)))
    if rng.random() < 0.5:
        await asyncio.sleep(rng.uniform(0.0, 1.5))
        await insist(lambda: lane.client.down(api.DownIntent(operation=f"down-{name}", name=name)))


async def insist(ask: Any) -> None:
    """Until the engine answers; a refusal is an answer."""
    while True:
        try:
            await ask()
        except EngineError:
            await asyncio.sleep(0.05)
        except UnderstudyError:
            return
        else:
            return


async def moment(lane: Lane, aim: str) -> str:
    """Waits for the moment to kill: any, or within a create call, or between an accepted destroy and its proof."""
    rng = lane.rng
    if aim == "any":
        await asyncio.sleep(rng.uniform(0.0, 1.6))
        return aim
    lane.wire.slow = SLOW if aim == CREATE else 1.0
    try:
        hit = await lane.wire.next(aim, 2.5)
        await asyncio.sleep(rng.random() * (lane.wire.hold_s(CREATE) if aim == CREATE else 1.2 * GRACE_S))
    finally:
        lane.wire.slow = 1.0
    return aim if hit else "any"


async def rest(lane: Lane) -> None:
    """Until every operation has ended and no machine is under way. Raises TimeoutError."""
    async with asyncio.timeout(REST_LIMIT_S):
        while True:
            state = (await lane.client.state()).state
            moving = [m for m in state.machines.values() if m.state in UNSETTLED]
            running = [o for o in state.operations.values() if o.state == "running"]
            if not moving and not running:
                return
            await asyncio.sleep(0.1)


async def operations_end(lane: Lane) -> None:
    async with asyncio.timeout(REST_LIMIT_S):
        while any(o.state == "running" for o in (await lane.client.state()).state.operations.values()):
            await asyncio.sleep(0.1)


async def down_all(lane: Lane, number: int) -> None:
    await insist(lambda: lane.client.down(api.DownIntent(operation=f"all-{number}", name=None)))


async def live_tokens(lane: Lane) -> set[str]:
    machines = (await lane.client.state()).state.machines.values()
    return {m.token for m in machines if m.state in LIVE and m.token is not None}


async def judge(lane: Lane, number: int, tally: Tally, live: set[str]) -> None:
    """The account against what the engine calls live; and every token against how often it was rented."""
    rows = await lane.truth()
    there = {row["token"] for row in rows if row["exists"]}
    tally.blame("leaked", len(there - live), f"trial {number}: in the account and not live: {sorted(there - live)}")
    tally.blame("missing", len(live - there), f"trial {number}: live and not in the account: {sorted(live - there)}")
    twice = [token for token, times in Counter(row["token"] for row in rows).items() if times > 1]
    tally.blame("doubled", len(twice), f"trial {number}: rented twice: {twice}")
    if not lane.sweep:
        await lane.clear()


async def run_lane(lane: Lane, numbers: Any, tally: Tally, progress: bool) -> None:
    """Takes trials until there are none left; a home serves TRIALS_PER_HOME of them."""
    done = 0
    await lane.begin()
    try:
        for number in numbers:
            try:
                await trial(lane, number, tally)
            except TimeoutError:
                tally.blame("unfinished", 1, f"trial {number} did not come to rest within {REST_LIMIT_S:.0f} s")
                return
            except EngineError as e:
                tally.blame("died", 1, f"trial {number}: {e} Its last words: {lane.last_words()}")
                return
            done += 1
            if progress:
                sys.stderr.write(f"\r{tally['trials']} trials, {tally['leaked']} leaked")
                sys.stderr.flush()
            if done % TRIALS_PER_HOME == 0:
                await count(lane, tally)
                await lane.end()
                await lane.begin()
        await count(lane, tally)
        await lane.end()
    finally:
        await lane.abandon()


async def count(lane: Lane, tally: Tally) -> None:
    """What this home's engines did, for the report: created machines, tombstones, kills and what they cut through."""
    rows = await lane.truth()
    tokens = {row["token"] for row in rows}
    said = lane.said()
    tally.update(created=len(rows), ambiguous=said["create_ambiguous"], surplus=said["surplus_found"])
    for death in lane.deaths:
        tally["kills"] += 1
        tally[f"kills_aimed_{death.aim}"] += 1
        tally["kills_in_create"] += bool(death.calling)
        tally["kills_in_create_that_took_effect"] += bool(set(death.calling) & tokens)
        tally["kills_in_destroy"] += death.accepted > 0
    lane.deaths.clear()


async def measure(trials: int, lanes: int, seed: int, *, sweep: bool = True, progress: bool = False) -> dict[str, Any]:
    """Runs the trials; the figures for the report. Everything that it started has ended."""
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="understudy-leaks-"))
    tally = Tally()
    labs: list[RunningLab] = []
    try:
        for i in range(lanes):
            (directory / str(i)).mkdir()
            lab = RunningLab(directory / str(i) / "lab", "--no-machines", "--pacing", "off", "--boot-s", str(BOOT_S))
            labs.append(lab.start())
            lab.control("GET", "/lab/status")
        numbers = iter(range(trials))
        dice = [random.Random(f"{seed}:{i}") for i in range(lanes)]  # noqa: S311 - the same seed, the same plan
        made = [Lane(directory / str(i), lab, dice[i], sweep) for i, lab in enumerate(labs)]
        await asyncio.gather(*(run_lane(lane, numbers, tally, progress) for lane in made))
    finally:
        for lab in labs:
            lab.close()
        shutil.rmtree(directory)
    return dict(tally) | {"wrong": tally.wrong, "took_s": round(time.monotonic() - began, 1), "lanes": lanes}


def main(argv: list[str] | None = None) -> int:
    """Prints the figures as one line of JSON; 1 when a trial broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.leaks")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-sweep", action="store_true", help="control: the sweep taken out; must leak")
    given = parser.parse_args(argv)
    result = asyncio.run(
        measure(given.trials, given.lanes, given.seed, sweep=not given.no_sweep, progress=sys.stderr.isatty())
    )
    print(json.dumps(result))  # noqa: T201
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
