"""The tables and how they came to be. One rule: a migration is never edited once it was released."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from core.domain.errors import StoreError

meta = sa.MetaData()

facts = sa.Table(
    "facts",
    meta,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("workspace", sa.String, index=True),
    sa.Column("machine", sa.String),
    sa.Column("operation", sa.String),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

# What the facts have made, so that a start need not fold a million of them. Written in the facts' own transaction.
objects = sa.Table(
    "objects",
    meta,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)

intents = sa.Table(
    "intents",
    meta,
    sa.Column("token", sa.String, primary_key=True),
    sa.Column("machine", sa.String, nullable=False, unique=True),
    sa.Column("workspace", sa.String, index=True),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("provider_id", sa.String),
    sa.Column("own_key", sa.String),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

# Requests by the client's own operation id: the same id acts once and is answered again.
requests = sa.Table(
    "requests",
    meta,
    sa.Column("operation", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

settings = sa.Table(
    "settings", meta, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

version = sa.Table("schema_version", sa.MetaData(), sa.Column("version", sa.Integer, nullable=False))

_MIGRATION_LOCK = 0x756E6465  # "unde": any number that is only ours


def _v1(connection: sa.Connection) -> None:
    meta.create_all(connection)


MIGRATIONS: list[Callable[[sa.Connection], None]] = [_v1]


def migrate(connection: sa.Connection) -> int:
    """Brings the schema up to date within the caller's transaction; returns its version.

    Raises StoreError for a schema newer than this program: it would not know what it destroys.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    version.create(connection, checkfirst=True)
    have = connection.execute(sa.select(version.c.version)).scalar()
    if have is None:
        connection.execute(version.insert().values(version=0))
        have = 0
    if have > len(MIGRATIONS):
        raise StoreError(
            f"The database is of schema {have}; this program knows {len(MIGRATIONS)}.",
            hint="Use the newer Understudy that wrote it, or another --home.",
        )
    for step in MIGRATIONS[have:]:
        step(connection)
    connection.execute(version.update().values(version=len(MIGRATIONS)))
    return len(MIGRATIONS)
