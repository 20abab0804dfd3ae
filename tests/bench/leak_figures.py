"""The leak harness as figures, with its control."""

from __future__ import annotations

import asyncio

from tests.bench.figures import Figure, count_of
from tests.bench.leaks import measure

LANES = 5
FULL_TRIALS = 500


def leaks(trials: int, control: int) -> dict[str, Figure]:
    """`leaks.*`: the trials, and the same without the sweep, which must leak."""
    found = asyncio.run(measure(trials, LANES, seed=1))
    without = asyncio.run(measure(control, LANES, seed=2, sweep=False))
    kills = found["kills"]
    wrong = sum(found.get(k, 0) for k in ("leaked", "missing", "doubled", "unfinished", "died"))
    said = f"{kills} kills in {found['took_s']:.0f} s, {found['created']} machines made; judged from the lab's world"
    if trials < FULL_TRIALS:
        said += "; a reduced run: make bench-long makes all of them"
    took_effect = f"{found.get('kills_in_create_that_took_effect', 0)} of them with a machine made"
    return {
        "leaks.trials": count_of(found.get("trials", 0), "trials", ">= 500", kills, said),
        "leaks.leaked": count_of(found.get("leaked", 0), "machines", "== 0", found.get("trials", 0)),
        "leaks.wrong": count_of(wrong, "findings", "== 0", found.get("trials", 0), "; ".join(found["wrong"])[:300]),
        "leaks.kills_in_create": count_of(found.get("kills_in_create", 0), "kills", ">= 100", kills, took_effect),
        "leaks.kills_in_destroy": count_of(found.get("kills_in_destroy", 0), "kills", ">= 100", kills),
        "leaks.control_leaked": count_of(
            without.get("leaked", 0), "machines", ">= 1", without.get("trials", 0), "the sweep taken out: must leak"
        ),
    }
