"""A database per test: a SQLite file, and the same on PostgreSQL when UNDERSTUDY_TEST_POSTGRES names a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.store.database import sqlite_url
from core.store.store import Store
from tests.store.postgresql import KINDS, server_database


class HandClock:
    """Epoch seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database; dropped after the test."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "understudy.db")
        return
    with server_database() as address:
        yield address


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(url: str, clock: HandClock) -> AsyncIterator[Store]:
    opened = Store(url, clock=clock)
    await opened.open()
    yield opened
    await opened.close()
