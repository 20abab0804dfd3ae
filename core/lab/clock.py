"""The lab's clock. Its one rule: the world's time is read here and nowhere else, so that a test can own it.

Lab seconds are epoch seconds. At speed 1 they are the host's; at another speed they run ahead of it; a manual clock
stands still until it is advanced.
"""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds of the lab.

    `speed` lab seconds pass per real second; `manual` ignores real time. Real waits (SSH, heartbeats, faults of the
    network) never use this clock.
    """

    def __init__(self, start: float | None = None, *, speed: float = 1.0, manual: bool = False) -> None:
        if speed <= 0:
            raise ValueError("a clock's speed is above zero")
        self.speed = speed
        self.manual = manual
        self._base = time.time() if start is None else start
        self._started = time.monotonic()

    def now(self) -> float:
        """Lab time, epoch seconds; never goes back."""
        if self.manual:
            return self._base
        return self._base + (time.monotonic() - self._started) * self.speed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once. Raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._base += seconds

    def resume(self, lab_time: float, saved_at: float) -> None:
        """Go on from a saved lab time; the real time that passed since `saved_at` (epoch) passes here too."""
        away_s = 0.0 if self.manual else max(0.0, time.time() - saved_at) * self.speed
        self._base = lab_time + away_s
        self._started = time.monotonic()
