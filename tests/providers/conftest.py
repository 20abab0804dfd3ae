"""Every test of the providers runs with the guard against blocking calls."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _guarded(never_blocks: object) -> None:
    """Asks for the guard."""
