"""`python -m core.engine run [--home DIR] [--with-parent]`: the engine in the foreground."""

from __future__ import annotations

import argparse
import sys

from core.engine.main import run
from core.home import find


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="core.engine")
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("--home")
    parser.add_argument("--with-parent", action="store_true")
    arguments = parser.parse_args(argv)
    return run(find(arguments.home), with_parent=arguments.with_parent)


if __name__ == "__main__":
    sys.exit(main())
