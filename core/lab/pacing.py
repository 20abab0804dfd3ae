"""How often the provider lets one identity call one endpoint.

Its one rule: real seconds, per endpoint with method, per token and address.

Thresholds are the provider's published minimum seconds between calls; endpoints without a published figure are not
limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable

VAST_MIN_INTERVAL_S: dict[str, float] = {
    "list": 1.0,
    "show": 2.0,
    "manage": 1.0,
    "reboot": 1.0,
    "recycle": 1.0,
    "destroy": 3.0,
    "create": 4.5,
    "bid": 5.5,
    "execute": 1.5,
    "ssh-create": 1.0,
    "ssh-attach": 1.0,
    "ssh-detach": 2.0,
}


class Pacer:
    """Refuses what comes too soon. A refused call does not push the next permitted one back."""

    def __init__(self, minimum_s: dict[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._minimum_s = minimum_s
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}

    def wait_s(self, endpoint: str, identity: str) -> float:
        """Seconds until this identity may call `endpoint`; 0 lets it through and counts it."""
        minimum_s = self._minimum_s.get(endpoint, 0.0)
        now = self._clock()
        since_s = now - self._last.get((endpoint, identity), -minimum_s)
        if since_s < minimum_s:
            return minimum_s - since_s
        self._last[endpoint, identity] = now
        return 0.0
