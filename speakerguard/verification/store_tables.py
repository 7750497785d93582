"""The tables of a profile store, and its rows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from speakerguard.verification.profile import MAX_NAME, Profile


class _Bytes(sa.LargeBinary):
    """Bytes as SQLite keeps them; SQLAlchemy would stumble over a damaged row's text."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:
        return None


TABLES = sa.MetaData()
# MySQL would take “Élodie” for “elodie” without a binary collation; SQLite and PostgreSQL do not.
_exact = sa.String(MAX_NAME, collation="utf8mb4_bin")
VERSIONS = sa.Table(
    "schema_versions",
    TABLES,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)
PROFILES = sa.Table(
    "profiles",
    TABLES,
    sa.Column(
        "name", sa.String(MAX_NAME).with_variant(_exact, "mysql", "mariadb"), primary_key=True
    ),
    sa.Column("fingerprint", sa.String(200), nullable=False),
    sa.Column("utterances", sa.Integer, nullable=False),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("embeddings", _Bytes(2**24), nullable=False),  # float32, little-endian
    sa.Column("net_seconds", sa.Text, nullable=False),  # JSON list, as are the sources
    sa.Column("sources", sa.Text, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),  # ISO 8601, UTC
)


def row_of(name: str) -> sa.Select[Any]:
    """The row of this name."""
    return sa.select(PROFILES).where(PROFILES.c.name == name)


def changed(profile: Profile) -> sa.Update:
    """What puts a profile in the place of the one of its name."""
    return sa.update(PROFILES).where(PROFILES.c.name == profile.name).values(packed(profile))


def packed(profile: Profile) -> dict[str, Any]:
    """The row of a profile; :func:`speakerguard.verification.store_reader.unpacked` reads it."""
    utterances, dimension = profile.embeddings.shape
    return {
        "name": profile.name,
        "fingerprint": profile.fingerprint,
        "utterances": utterances,
        "dimension": dimension,
        "embeddings": profile.embeddings.astype("<f4").tobytes(),
        "net_seconds": json.dumps(profile.net_seconds),
        "sources": json.dumps(profile.sources, ensure_ascii=False),
        "created": profile.created.isoformat(),
    }


def prepare_sqlite(connection: Any, _record: Any) -> None:
    """Set up a new connection to SQLite."""
    connection.isolation_level = None  # transactions begin where begin_sqlite says
    with suppress(sqlite3.Error):  # busy, read-only or damaged: the statement to come will tell
        connection.execute("PRAGMA journal_mode=DELETE")  # one file holds all, and can be copied


def begin_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction; one that writes holds the lock from its start."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
