"""Every screen in every state at three sizes, as text; the main ones in the smallest window and without Unicode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.screens.states import PICTURES, shown

SIZES = ((120, 36), (80, 24), (200, 60))
MAIN = ("overview-full", "market-full", "machines-full", "log-full", "machine-working")


@pytest.mark.parametrize("name", PICTURES)
async def test_state(name: str, snapshot: Callable[[Any, str], None]) -> None:
    async with shown(name, SIZES[0]) as on:
        for columns, rows in SIZES:
            await on.resize(columns, rows)
            snapshot(on.console, f"{name}_{columns}x{rows}")
            assert max(len(line) for line in on.text().splitlines()) <= columns


@pytest.mark.parametrize("name", MAIN)
async def test_the_smallest_window_is_usable(name: str, snapshot: Callable[[Any, str], None]) -> None:
    async with shown(name, (60, 15)) as on:
        snapshot(on.console, f"{name}_60x15")
        panel = on.console.panel
        assert panel is not None
        assert panel.row_text()


@pytest.mark.parametrize("name", [*MAIN, "rent-timeline", "market-offer", "machines-destroy"])
async def test_ascii_is_ascii(name: str) -> None:
    async with shown(name, (100, 30), ascii_only=True) as on:
        assert [line for line in on.text().splitlines() if not line.isascii()] == []
