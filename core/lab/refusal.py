"""The one error of faults. Its one rule: its text is a sentence for the operator."""

from __future__ import annotations


class FaultRefused(Exception):
    """This fault cannot be made real here and now; the message says why."""
