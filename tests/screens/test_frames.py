"""What opens over a panel, held to its text at three sizes and in ASCII."""

from __future__ import annotations

from typing import Any

import pytest

from tests.screens.frame_states import FRAME, standing

SIZES = ((60, 15), (80, 24), (120, 36))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", sorted(FRAME))
async def test_picture(name: str, size: tuple[int, int], snapshot: Any) -> None:
    async with standing(name, size) as on:
        snapshot(on.console, f"{name}_{size[0]}x{size[1]}")


async def test_ascii_means_ascii() -> None:
    for name in ("frame-help", "frame-drawer", "frame-menu"):
        async with standing(name, (100, 30), ascii_only=True) as on:
            strange = {letter for letter in on.text() if not letter.isascii()}
            assert not strange, (name, strange)
