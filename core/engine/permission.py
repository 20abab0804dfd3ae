"""The one place that asks whether an actor may do something. Roles come with the console over SSH; the place is here.

One rule: every intent passes here before anything is written, and what is refused is refused in words.
"""

from __future__ import annotations

import os

from core.domain.errors import IntentRefused
from core.engine.socket import user_name


def allow(actor: str, verb: str, subject: str = "") -> None:
    """Raises IntentRefused. Today the socket belongs to one user, and that user may do everything."""
    if actor != user_name(os.getuid()):
        about = f" {subject}" if subject else ""
        raise IntentRefused(
            f"{actor} may not {verb}{about} here.", hint="Only the user who owns this engine may change anything."
        )
