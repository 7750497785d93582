"""Where enrolled voices live: profiles in a SQL database, SQLite unless a URL says otherwise.

A profile keeps every utterance's embedding and the fingerprint of the model that made it, so
nothing is lost by averaging and a change of weights is noticed. It is one row, and each change
is one transaction that holds SQLite's write lock from its start: a kill in the middle leaves the
store as it was before, and two processes that enrol at once both succeed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import exc

from speakerguard.errors import (
    NoSuchProfileError,
    StoreError,
    UsageError,
)
from speakerguard.verification.profile import MAX_NAME, Profile, clean_name, compatible
from speakerguard.verification.store_reader import (
    ENVIRONMENT,
    SCHEMA_VERSION,
    default_path,
    unpacked,
)

BUSY_SECONDS = 30.0  # how long SQLite waits for another process's write

TABLES = sa.MetaData()
# MySQL would take “Élodie” for “elodie” without a binary collation; SQLite and PostgreSQL do not.
_exact = sa.String(MAX_NAME, collation="utf8mb4_bin")
_versions = sa.Table(
    "schema_versions",
    TABLES,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)
_profiles = sa.Table(
    "profiles",
    TABLES,
    sa.Column(
        "name", sa.String(MAX_NAME).with_variant(_exact, "mysql", "mariadb"), primary_key=True
    ),
    sa.Column("fingerprint", sa.String(200), nullable=False),
    sa.Column("utterances", sa.Integer, nullable=False),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("embeddings", sa.LargeBinary(2**24), nullable=False),  # float32, little-endian
    sa.Column("net_seconds", sa.Text, nullable=False),  # JSON list, as are the sources
    sa.Column("sources", sa.Text, nullable=False),
    sa.Column("created", sa.String(40), nullable=False),  # ISO 8601, UTC
)
_EXAMPLE = "postgresql+psycopg://user@host/voices"
_ADVICE = (  # sign in the database's message and what to do; the last fits any
    ("locked", "Another process is writing to it: wait until that has finished, then try again."),
    ("not a database", "Name another file with --store, or restore this one from a backup."),
    ("malformed", "Restore it from a backup, or move it away and enrol again."),
    ("unique", "Another process enrolled the same name just now: try again."),
    ("full", "Make room on the disk, then try again."),
    ("no module named", "Install this driver with pip."),
    ("can't load plugin", f"Give a path, or a URL such as {_EXAMPLE}."),
    ("", "Check that it can be reached and written, its folder too; or name another (--store)."),
)


class ProfileStore:
    """Profiles in a database; every method raises StoreError where that fails.

    Args:
        url: a SQLAlchemy URL or the path of an SQLite file. Without it ``SPEAKERGUARD_STORE``
            says, and otherwise it is ``profiles.db`` in the user's data directory. The first
            profile added makes the SQLite file; until then the store is empty.

    >>> import numpy as np
    >>> with ProfileStore("sqlite://") as store:
    ...     store.add(Profile("alice", "c0ffee", np.eye(1, 4), (3.0,), ("a1.wav",)))
    ...     store.names(), store.get("alice").sources, "bob" in store
    (['alice'], ('a1.wav',), False)
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        self.location = os.fspath(url or os.environ.get(ENVIRONMENT) or default_path())
        self.path: Path | None = None  # of an SQLite file
        self._turn: AbstractContextManager[Any] = nullcontext()
        with self._failures():
            if "://" not in self.location:
                parsed = sa.URL.create("sqlite", database=str(Path(self.location).expanduser()))
            else:
                parsed = _parse(self.location)
                # the last @ ends a password, also where one within it was not encoded
                self.location = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", self.location)
            if parsed.get_backend_name() != "sqlite":
                self._engine = sa.create_engine(parsed)
                return
            if parsed.database and parsed.database != ":memory:":
                self._engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
            else:  # one database, which lives in one connection, for all threads in turn
                alone = {"check_same_thread": False}
                self._engine = sa.create_engine(parsed, poolclass=sa.StaticPool, connect_args=alone)
                self._turn = threading.RLock()
        if parsed.database and not parsed.database.startswith((":memory:", "file:")):
            self.path = Path(parsed.database)
        sa.event.listen(self._engine, "connect", _prepare_sqlite)
        sa.event.listen(self._engine, "begin", _begin_sqlite)

    def add(self, profile: Profile, replace: bool = False) -> None:
        """Keep ``profile``; with ``replace``, in place of one of the same name.

        Raises:
            UsageError: the name is taken and ``replace`` is False.
        """
        with self._write() as connection:
            if connection.execute(_row(profile.name).with_for_update()).first() is None:
                connection.execute(sa.insert(_profiles).values(_pack(profile)))
            elif replace:
                connection.execute(_change(profile))
            else:
                raise UsageError(
                    f"“{profile.name}” is already enrolled: choose another name, or replace the "
                    "profile (--replace), or add to it (--add)."
                )

    def extend(self, profile: Profile) -> Profile:
        """Add the utterances of ``profile`` to the one of the same name; return the whole.

        Raises:
            NoSuchProfileError: nobody of this name is enrolled.
            IncompatibleProfileError: other weights made the enrolled profile.
        """
        self.get(profile.name, profile.fingerprint)  # refuses before a file is made or locked
        with self._write() as connection:
            row = connection.execute(_row(profile.name).with_for_update()).one()
            dimension = profile.embeddings.shape[1]
            old = compatible(self._unpack(row), profile.fingerprint, dimension)
            whole = old.extended(profile)
            connection.execute(_change(whole))
        return whole

    def get(self, name: str, fingerprint: str | None = None) -> Profile:
        """The profile called ``name``; with ``fingerprint``, checked by :func:`.compatible`.

        Raises:
            NoSuchProfileError: nobody of this name is enrolled.
            IncompatibleProfileError: other weights than ``fingerprint``'s made it.
        """
        name = clean_name(name)
        rows = self._rows(_row(name))
        if not rows:
            raise self._no_such(name)
        profile = self._unpack(rows[0])
        return profile if fingerprint is None else compatible(profile, fingerprint)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(row.name for row in self._rows(sa.select(_profiles.c.name)))

    def all(self, fingerprint: str | None = None) -> list[Profile]:
        """All profiles, sorted by name; with ``fingerprint``, those that this model made."""
        rows = sorted(self._rows(sa.select(_profiles)), key=lambda row: str(row.name))
        return [self._unpack(row) for row in rows if fingerprint in (None, row.fingerprint)]

    def remove(self, name: str) -> None:
        """Forget ``name``. Raises NoSuchProfileError if nobody of this name is enrolled."""
        name = clean_name(name)
        if name in self:  # no file is made for this
            with self._write() as connection:
                gone = connection.execute(sa.delete(_profiles).where(_profiles.c.name == name))
            if gone.rowcount:
                return
        raise self._no_such(name)

    def __contains__(self, name: str) -> bool:
        return bool(self._rows(_row(clean_name(name)).with_only_columns(_profiles.c.name)))

    def __len__(self) -> int:
        return len(self.names())

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rows(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """What ``statement`` finds; nothing in a store that has not been made yet."""
        with self._turn, self._failures():
            if self.path is not None and not self.path.exists():
                return []
            with self._engine.connect() as connection:
                return connection.execute(statement).all() if self._made(connection) else []

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its start; in it the tables exist."""
        with self._turn, self._failures():
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(0o600)  # voices are as private as passwords
            engine = self._engine.execution_options(writes=True)
            with engine.begin() as connection:
                if not self._made(connection):
                    TABLES.create_all(connection)
                    connection.execute(sa.insert(_versions), {"version": SCHEMA_VERSION})
                yield connection

    def _made(self, connection: sa.Connection) -> bool:
        """Whether the tables exist. Raises StoreError if a newer program made them."""
        if not sa.inspect(connection).has_table(_versions.name):
            return False
        version: int | None = connection.scalar(sa.select(sa.func.max(_versions.c.version)))
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.location}: made by a newer speakerguard (schema {version}; this one knows "
                f"{SCHEMA_VERSION}). Upgrade with: pip install --upgrade speakerguard"
            )
        return version is not None

    def _no_such(self, name: str) -> NoSuchProfileError:
        known = self.names()
        near = " or ".join(f"“{other}”" for other in difflib.get_close_matches(name, known))
        if near:
            advice = f"Did you mean {near}?"
        elif known:
            advice = "See who is with: speakerguard profiles list"
        else:
            advice = f"Nobody is, in {self.location}; enrol with: speakerguard enroll NAME FILE…"
        return NoSuchProfileError(f"“{name}” is not enrolled. {advice}")

    def _unpack(self, row: sa.Row[Any]) -> Profile:
        try:
            values: Any = tuple(row)  # in the order of the table's columns
            return unpacked(*values)
        except (ValueError, UsageError) as error:
            raise StoreError(
                f"{self.location}: the profile “{row.name}” is damaged ({error}). Remove it and "
                "enrol again, or restore the store from a backup."
            ) from error

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, ImportError, OSError) as error:
            cause = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            reason = (str(cause) or type(cause).__name__).splitlines()[0].rstrip(".")
            advice = next(text for sign, text in _ADVICE if sign in reason.lower())
            raise StoreError(f"profile store {self.location}: {reason}. {advice}") from error


def _parse(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # neither is shown: either may quote a password
        raise StoreError(
            f"the store's URL cannot be read. Give a path, or a URL such as {_EXAMPLE}, with "
            "special characters percent-encoded."
        ) from None


def _row(name: str) -> sa.Select[Any]:
    return sa.select(_profiles).where(_profiles.c.name == name)


def _change(profile: Profile) -> sa.Update:
    return sa.update(_profiles).where(_profiles.c.name == profile.name).values(_pack(profile))


def _pack(profile: Profile) -> dict[str, Any]:
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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    with suppress(sqlite3.Error):  # busy, read-only or damaged: the statement to come will tell
        connection.execute("PRAGMA journal_mode=DELETE")  # one file holds all, and can be copied


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
