"""The PostgreSQL server that UNDERSTUDY_TEST_POSTGRES names, if any. One rule: every database made there is dropped."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

SERVER = os.environ.get("UNDERSTUDY_TEST_POSTGRES", "")
KINDS = ["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgres)] if SERVER else [])]
UTF8 = "ENCODING 'UTF8' TEMPLATE template0"


@contextmanager
def server_database(options: str = UTF8) -> Iterator[str]:
    """The URL of a new empty database."""
    name = f"understudy_test_{uuid.uuid4().hex[:12]}"
    _command(f"CREATE DATABASE {name} {options}")
    try:
        yield urlunsplit(urlsplit(SERVER)._replace(path=f"/{name}"))
    finally:
        _command(f"DROP DATABASE {name} WITH (FORCE)")


def _command(statement: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(statement.encode())
