"""`agent.pyz attach`: starts or joins the machine's daemon and relays its frames. One rule: an error is one line."""

from __future__ import annotations

import sys

from core.agent.attach import AttachError, attach


def main(version: str, argv: list[str]) -> int:
    """Exit status: 0 the channel ended, 1 the daemon cannot be had, 2 called wrongly."""
    if argv != ["attach"]:
        sys.stderr.write("usage: agent.pyz attach\n")
        return 2
    try:
        return attach(version)
    except AttachError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return 0


if __name__ == "__main__":
    sys.exit(main("source", sys.argv[1:]))
