"""An SQLite older than the Python that uses it: DBOS's own clock in the database is there all the same."""

from __future__ import annotations

import sqlite3
import time

from core.operations import durable


def test_times_of_the_operations_database_are_never_null() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        durable._subseconds(connection, None)
        connection.execute("CREATE TABLE t (id INTEGER, at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000))")
        before = time.time()
        connection.execute("INSERT INTO t (id) VALUES (1)")
        (at,) = connection.execute("SELECT CAST(at AS INTEGER) FROM t").fetchone()
    finally:
        connection.close()
    assert before * 1000 - 1 <= at <= time.time() * 1000 + 1
