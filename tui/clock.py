"""Time for the console. Its one rule: whoever needs the time is handed a clock, so that a test can hold it still."""

from __future__ import annotations

import time


class Clock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Epoch seconds: for ages of what the engine stamped."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump: for waiting and freezing."""
        return time.monotonic()
