"""`make bench`: every figure of the product, measured here and now, as a table and as build/bench.json.

One rule: it reports what it measured; a missed aim is printed as missed, and a measurement that failed as failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import cli_figures, console_figures, engine_figures, leak_figures, rent_figures
from tests.bench.figures import Figure

ROOT = Path(__file__).parents[2]
COMPARED = ("textual", "litestar", "dbos", "sqlalchemy", "asyncssh", "httpx", "msgspec", "uvicorn", "click")

# family -> what measures it, given whether the long run was asked for
FAMILIES: dict[str, Callable[[bool], dict[str, Figure]]] = {
    "cli": lambda long: cli_figures.help_page(25 if long else 11),
    "console.start": lambda long: console_figures.start(25 if long else 9),
    "console.key": lambda long: console_figures.key(10 if long else 5),
    "console.load": lambda long: console_figures.load(12 if long else 5),
    "engine.load": lambda long: engine_figures.load(12 if long else 5),
    "engine.restart": lambda long: engine_figures.restart(15 if long else 5),
    "rent": lambda long: rent_figures.overhead(10 if long else 3),
    "leaks": lambda long: leak_figures.leaks(*((500, 40) if long else (60, 8))),
}


def main(argv: list[str] | None = None) -> int:
    """0 when everything could be measured, whatever the figures are; 1 when something could not."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.run")
    parser.add_argument("--long", action="store_true", help="the full numbers of trials")
    parser.add_argument("--only", action="append", help=f"one family, repeatable: {', '.join(FAMILIES)}")
    given = parser.parse_args(argv)
    began, figures, failed = time.monotonic(), {}, []
    for name, family in FAMILIES.items():
        if given.only and name not in given.only:
            continue
        sys.stderr.write(f"{name} …\n")
        try:
            found = family(given.long)
        except Exception:  # noqa: BLE001 - it is reported, and the other figures are still made
            traceback.print_exc()
            failed.append(name)
            continue
        figures |= found
        sys.stdout.write(table(found))
        sys.stdout.flush()
    write(figures, failed, time.monotonic() - began, long=given.long)
    for name in failed:
        sys.stdout.write(f"{name}: COULD NOT BE MEASURED\n")
    return 1 if failed else 0


def table(figures: dict[str, Figure]) -> str:
    """One line a figure."""
    lines = []
    for key, f in figures.items():
        word = "met" if f.met else "MISSED"
        spread = f"n {f.n:<5} p50 {f.p50:<9g} p95 {f.p95:<9g}"
        lines.append(f"{key:<28} {f.value:>10g} {f.unit:<12} aim {f.aim:<8} {word:<7} {spread} {f.note}\n")
    return "".join(lines)


def write(figures: dict[str, Figure], failed: list[str], took_s: float, *, long: bool) -> None:
    """build/bench.json: the figures by key, and what they were measured with."""
    body: dict[str, Any] = {key: msgspec.to_builtins(f) | {"met": f.met} for key, f in figures.items()}
    body["about"] = {
        "long": long,
        "took_s": round(took_s, 1),
        "failed": failed,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in COMPARED},
    }
    path = ROOT / "build" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
