"""Opening a database: SQLite with the pragmas that make a commit mean something, or PostgreSQL by URL.

One rule: a transaction begins as a writer (BEGIN IMMEDIATE): a deferred one fails at once when it upgrades.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from core.domain.errors import StoreError

BUSY_TIMEOUT_MS = 30_000
Durability = Literal["FULL", "NORMAL"]


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def connect(url: str, durability: Durability = "FULL") -> sa.Engine:
    """An engine with exactly one connection, for use from one thread.

    `FULL`: a commit survives power loss; `NORMAL`: it survives kill -9, and the file stays whole. Raises StoreError.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, durability)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise StoreError(
        f"Databases of kind '{parsed.get_backend_name()}' are not supported.",
        hint="Use a SQLite path or a postgresql:// URL in [engine] database_url.",
    )


def create_private_file(path: Path) -> None:
    """Makes the file 0600 before SQLite opens it, in WAL mode (which stays with the file). Raises StoreError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    except (OSError, sqlite3.Error) as e:
        raise StoreError(f"The database {path} cannot be opened: {e}.", hint="Is the disk full or read-only?") from e


def _sqlite(url: sa.URL, durability: Durability) -> sa.Engine:
    if url.database and url.database != ":memory:":
        create_private_file(Path(url.database))
    engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={durability}",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _immediate(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar_one())
    except TypeError:
        encoding = "SQL_ASCII"  # its texts arrive as bytes, which already the dialect cannot read
    except sa.exc.SQLAlchemyError as e:
        engine.dispose()
        raise StoreError(
            f"PostgreSQL at {url.render_as_string(hide_password=True)} cannot be used: {_first_line(e)}",
            hint="Check [engine] database_url; the database must exist, be UTF8 and be this user's.",
        ) from e
    if encoding != "UTF8":
        engine.dispose()
        raise StoreError(
            f"The PostgreSQL database is {encoding}, not UTF8.",
            hint="Create it with ENCODING 'UTF8' TEMPLATE template0.",
        )
    return engine


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
