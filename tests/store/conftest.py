"""A database per test: a SQLite file, and the same on PostgreSQL when UNDERSTUDY_TEST_POSTGRES names a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from core.store.database import sqlite_url
from core.store.store import Store

SERVER = os.environ.get("UNDERSTUDY_TEST_POSTGRES", "")
KINDS = ["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgres)] if SERVER else [])]


class HandClock:
    """Epoch seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def server_command(statement: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(statement.encode())


def database_of_server(name: str) -> str:
    return SERVER.rsplit("/", 1)[0] + f"/{name}" if SERVER.count("/") > 2 else f"{SERVER}/{name}"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database; dropped after the test."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "understudy.db")
        return
    name = f"understudy_test_{uuid.uuid4().hex[:12]}"
    server_command(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    yield database_of_server(name)
    server_command(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(url: str, clock: HandClock) -> AsyncIterator[Store]:
    opened = Store(url, clock=clock)
    await opened.open()
    yield opened
    await opened.close()
