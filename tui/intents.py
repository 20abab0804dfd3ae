"""What the console asks of the engine: ids and durations as they are typed. One rule: an id is made once, by who asks.

The id goes with the request, so that asking again after a lost answer is asking for the same thing.
"""

from __future__ import annotations

import re
import secrets

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


_NO_PART_OF_AN_ID = re.compile(r"[^A-Za-z0-9_-]+")
TARGET_MAX = 48
"""Of a target's name in an id; the engine takes ids of at most 80 characters."""


def operation_id(verb: str, target: str) -> str:
    """`down-tts-4f1c9a02`: readable in the journal, of letters the engine takes, never the same twice."""
    named = _NO_PART_OF_AN_ID.sub("-", target)[:TARGET_MAX].strip("-") or "it"
    return f"{verb}-{named}-{secrets.token_hex(4)}"


def duration_s(text: str) -> float | None:
    """Seconds of `8h`, `90m`, `1d12h`. None when nothing was typed. Raises ValueError with a sentence otherwise."""
    typed = text.strip().casefold().replace(" ", "")
    if not typed:
        return None
    if not _DURATION.fullmatch(typed):
        raise ValueError(f"{text.strip()!r} is no duration; write 8h, 90m or 1d12h.")
    seconds = sum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(typed))
    if seconds <= 0:
        raise ValueError("A duration is longer than nothing.")
    return seconds
