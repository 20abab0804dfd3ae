"""`python -m core.lab up --home DIR`: the lab in the foreground.

Its one rule: it says in one sentence why it does not start.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from core.lab.front import Lab, LabOptions
from core.lab.home import LabRunning


def options_of(argv: list[str]) -> LabOptions:
    """The options in a command line; exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m core.lab", description="The embedded cloud, in the foreground.")
    up = parser.add_subparsers(dest="verb", required=True).add_parser(
        "up", help="run the lab of a home until told to stop"
    )
    up.add_argument("--home", type=Path, required=True, help="the Understudy home; the lab keeps its state in HOME/lab")
    up.add_argument("--seed", type=int, default=LabOptions.seed, help="which world (only the first time in a home)")
    up.add_argument("--scale", type=int, default=LabOptions.scale, help="how many times the usual hosts there are")
    up.add_argument("--speed", type=float, default=LabOptions.speed, help="lab seconds per real second")
    up.add_argument("--boot-s", type=float, help="lab seconds from a create call to a running machine")
    up.add_argument(
        "--pacing",
        choices=("real", "off"),
        default="real",
        help="minimum seconds between calls, as the provider has them, or none",
    )
    up.add_argument("--with-parent", action="store_true", help="end with the process that started it")
    up.add_argument("--manual-clock", action="store_true", help="time passes only by POST /lab/advance")
    up.add_argument("--no-machines", action="store_true", help="machines boot by the clock only, nothing real runs")
    given = parser.parse_args(argv)
    return LabOptions(
        home=given.home.absolute(),
        seed=given.seed,
        scale=given.scale,
        speed=given.speed,
        boot_s=given.boot_s,
        pacing=given.pacing == "real",
        with_parent=given.with_parent,
        manual_clock=given.manual_clock,
        machines=not given.no_machines,
    )


async def _run(options: LabOptions) -> None:
    await Lab(options).run()


def main(argv: list[str] | None = None) -> int:
    """Run the lab; 0 when it was told to stop, 1 when it could not start, 4 when one runs already."""
    options = options_of(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        asyncio.run(_run(options))
    except LabRunning as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one sentence
        return 4
    except OSError as error:
        print(f"The lab cannot start: {error}", file=sys.stderr)  # noqa: T201 - the one sentence
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
