"""Where enrolled voices live: profiles in a SQL database, SQLite unless a URL says otherwise.

A profile keeps every utterance's embedding and the fingerprint of the model that made it, so
nothing is lost by averaging and a change of weights is noticed. It is one row, and each change
is one transaction that holds SQLite's write lock from its start: a kill in the middle leaves the
store as it was before, and two processes that enrol at once both succeed.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import exc

from speakerguard.errors import (
    NoSuchProfileError,
    StoreError,
    UsageError,
)
from speakerguard.folders import make_private, read_by_others
from speakerguard.processes import Remade, after_fork
from speakerguard.sound.audio import printable
from speakerguard.verification.profile import Profile, clean_name, compatible
from speakerguard.verification.store_reader import (
    ENVIRONMENT,
    SCHEMA_VERSION,
    default_path,
    unpacked,
)
from speakerguard.verification.store_tables import (
    PROFILES,
    TABLES,
    VERSIONS,
    begin_sqlite,
    changed,
    packed,
    prepare_sqlite,
    row_of,
)
from speakerguard.verification.store_url import EXAMPLE, hidden, place

BUSY_SECONDS = 30.0  # how long SQLite waits for another process's write

_ADVICE = (  # sign in the database's message and what to do; the last fits any
    ("locked", "Another process is writing to it: wait until that has finished, then try again."),
    ("not a database", "Name another file with --store, or restore this one from a backup."),
    ("malformed", "Restore it from a backup, or move it away and enrol again."),
    ("unique", "Another process enrolled the same name just now: try again."),
    ("full", "Make room on the disk, then try again."),
    ("no module named", "Install this driver with pip."),
    ("can't load plugin", f"Give a path, or a URL such as {EXAMPLE}."),
    ("", "Check that it can be reached and written, its folder too; or name another (--store)."),
)


class ProfileStore(Remade):
    """Profiles in a database; every method raises StoreError where that fails.

    Args:
        url: a SQLAlchemy URL, a ``file:`` URI or the path of an SQLite file. Without it
            ``SPEAKERGUARD_STORE`` says, and otherwise it is ``profiles.db`` in the user's data
            directory. The first profile added makes the SQLite file; until then the store is
            empty. With ``?mode=ro`` nothing is ever written.

    Attributes:
        path: of an SQLite file; None elsewhere and in memory.

    >>> import numpy as np
    >>> with ProfileStore("sqlite://") as store:
    ...     store.add(Profile("alice", "c0ffee", np.eye(1, 4), (3.0,), ("a1.wav",)))
    ...     store.names(), store.get("alice").sources, "bob" in store
    (['alice'], ('a1.wav',), False)
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        after_fork(self._leave)
        self.location = os.fspath(url or os.environ.get(ENVIRONMENT) or default_path())
        self._turn: AbstractContextManager[Any] = nullcontext()
        with self._failures():
            found = place(self.location)
            self.location = hidden(self.location)
            self.path, self.mode = found.path, found.mode
            if found.url.get_backend_name() != "sqlite":
                self._engine = sa.create_engine(found.url)
                return
            if found.path:
                self._engine = sa.create_engine(found.url, connect_args={"timeout": BUSY_SECONDS})
            else:  # one database, which lives in one connection, for all threads in turn
                alone = {"check_same_thread": False}
                self._engine = sa.create_engine(
                    found.url, poolclass=sa.StaticPool, connect_args=alone
                )
                self._turn = threading.RLock()
        sa.event.listen(self._engine, "connect", prepare_sqlite)
        sa.event.listen(self._engine, "begin", begin_sqlite)

    def add(self, profile: Profile, replace: bool = False) -> None:
        """Keep ``profile``; with ``replace``, in place of one of the same name.

        Raises:
            UsageError: the name is taken and ``replace`` is False.
        """
        with self._write() as connection:
            if connection.execute(row_of(profile.name).with_for_update()).first() is None:
                connection.execute(sa.insert(PROFILES).values(packed(profile)))
            elif replace:
                connection.execute(changed(profile))
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
            row = connection.execute(row_of(profile.name).with_for_update()).one()
            dimension = profile.embeddings.shape[1]
            old = compatible(self._unpack(row), profile.fingerprint, dimension)
            whole = old.extended(profile)
            connection.execute(changed(whole))
        return whole

    def get(self, name: str, fingerprint: str | None = None, hint: bool = False) -> Profile:
        """The profile called ``name``; with ``fingerprint``, checked by :func:`.compatible`.

        Args:
            hint: say who is enrolled where ``name`` is not; not to a stranger who claims to be.

        Raises:
            NoSuchProfileError: nobody of this name is enrolled.
            IncompatibleProfileError: other weights than ``fingerprint``'s made it.
        """
        name = clean_name(name)
        rows = self._rows(row_of(name))
        if not rows and hint:
            raise self.no_such(name)
        if not rows:
            raise NoSuchProfileError(
                f"“{name}” is not enrolled. Enrol with: speakerguard enroll NAME FILE…"
            )
        profile = self._unpack(rows[0])
        return profile if fingerprint is None else compatible(profile, fingerprint)

    def names(self) -> list[str]:
        """All names, sorted; those that are no text are left out; see :meth:`nameless`."""
        found = (row.name for row in self._rows(sa.select(PROFILES.c.name)))
        return sorted(name for name in found if isinstance(name, str))

    def nameless(self) -> list[StoreError]:
        """Why profiles cannot be used whose names are no text, or none that could be given."""
        errors = []
        for row in self._rows(sa.select(PROFILES.c.name)):
            try:
                clean_name(row.name)
            except UsageError as error:
                errors.append(self._damaged(row.name, error))
        return errors

    def all(self, fingerprint: str | None = None) -> list[Profile]:
        """All profiles, sorted by name; with ``fingerprint``, those that this model made."""
        rows = sorted(self._rows(sa.select(PROFILES)), key=lambda row: _shown(row.name))
        return [self._unpack(row) for row in rows if fingerprint in (None, row.fingerprint)]

    def remove(self, name: str) -> None:
        """Forget ``name``, also where the profile is damaged and its name no text.

        Raises:
            NoSuchProfileError: nobody of this name is enrolled.
        """
        found = [row.name for row in self._rows(sa.select(PROFILES.c.name))]
        kept: Any = clean_name(name)
        if kept not in found:
            kept = next((other for other in found if _shown(other) == kept), None)
        if kept is not None:  # no file is made for this
            with self._write() as connection:
                column = sa.type_coerce(PROFILES.c.name, sa.types.NullType())
                gone = connection.execute(sa.delete(PROFILES).where(column == kept))
            if gone.rowcount:
                return
        raise self.no_such(name)

    def rename(self, old: str, new: str) -> Profile:
        """Call ``old`` by another name; returns the profile.

        Raises:
            NoSuchProfileError: nobody is called ``old``.
            UsageError: ``new`` is taken.
        """
        old, new = clean_name(old), clean_name(new)
        if old not in self:
            raise self.no_such(old)
        with self._write() as connection:
            renamed = replace(self._one(connection, old), name=new)
            if connection.execute(row_of(new).with_for_update()).first() is not None:
                raise UsageError(f"“{new}” is already enrolled: choose another name.")
            change = sa.update(PROFILES).where(PROFILES.c.name == old)
            connection.execute(change.values(name=new))
        return renamed

    def drop(self, name: str, source: str) -> Profile:
        """Take one recording out of a profile, by its source's name; returns what is left.

        Raises:
            NoSuchProfileError: nobody of this name is enrolled.
            UsageError: there is no such recording, there are several, or no other.
        """
        name = clean_name(name)
        if name not in self:
            raise self.no_such(name)
        with self._write() as connection:
            profile = self._one(connection, name)
            known = [printable(one) for one in profile.sources]
            called = {printable(source), printable(Path(source).name)}
            places = [index for index, one in enumerate(known) if one in called]
            if not places:
                raise UsageError(
                    f"“{name}” has no recording {printable(source)!r}: its recordings are "
                    f"{', '.join(dict.fromkeys(known))}."
                )
            if len(places) > 1:
                raise UsageError(
                    f"“{name}” has {len(places)} recordings called {known[places[0]]}, so which "
                    "one is meant is not clear. Enrol the others again with --replace."
                )
            if len(known) == 1:
                raise UsageError(
                    f"{known[0]} is the only recording of “{name}”. Remove the profile with: "
                    "speakerguard profiles remove"
                )
            left = profile.without(places[0])
            connection.execute(changed(left))
        return left

    def add_all(self, profiles: Sequence[Profile], replace: bool = False) -> None:
        """Keep all ``profiles`` or, where one cannot be, none.

        Raises:
            UsageError: names are taken and ``replace`` is False.
        """
        with self._write() as connection:
            known = set(connection.scalars(sa.select(PROFILES.c.name)))
            taken = [profile for profile in profiles if profile.name in known]
            if taken and not replace:
                names = ", ".join(profile.name for profile in taken)
                raise UsageError(
                    f"already enrolled: {names}. Nothing was taken up; to overwrite them, "
                    "--replace."
                )
            for profile in taken:
                connection.execute(changed(profile))
            if new := [packed(profile) for profile in profiles if profile.name not in known]:
                connection.execute(sa.insert(PROFILES), new)

    def open_to_others(self) -> bool:
        """Whether other users of this machine can read the file of the store."""
        with self._failures():
            return self.path is not None and self.path.exists() and read_by_others(self.path)

    def _one(self, connection: sa.Connection, name: str) -> Profile:
        """The profile of this name, in a transaction."""
        row = connection.execute(row_of(name).with_for_update()).first()
        if row is None:
            raise self.no_such(name)
        return self._unpack(row)

    def __contains__(self, name: str) -> bool:
        return bool(self._rows(row_of(clean_name(name)).with_only_columns(PROFILES.c.name)))

    def __len__(self) -> int:
        return len(self.names())

    def __reduce__(self) -> tuple[Any, ...]:
        """Its URL: another process has connections of its own."""
        if isinstance(self._engine.pool, sa.StaticPool):
            raise UsageError(
                f"profiles in memory ({self.location}) cannot be given to another process: keep "
                "them in a file."
            )
        return super().__reduce__()

    def _leave(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        if not isinstance(self._engine.pool, sa.StaticPool):
            self._engine.dispose(close=False)

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
            if self.path is not None:
                try:
                    self.path.stat()
                except FileNotFoundError:
                    return []
            with self._engine.connect() as connection:
                return connection.execute(statement).all() if self._made(connection) else []

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its start; in it the tables exist."""
        if self.mode == "ro":
            raise StoreError(
                f"{self.location}: opened for reading only, so nothing is changed. Leave mode=ro "
                "out, or name another store with --store."
            )
        with self._turn, self._failures():
            if self.path is not None and self.mode == "rwc":
                make_private(self.path)  # voices are as private as passwords
            engine = self._engine.execution_options(writes=True)
            with engine.begin() as connection:
                if not self._made(connection):
                    TABLES.create_all(connection)
                    connection.execute(sa.insert(VERSIONS), {"version": SCHEMA_VERSION})
                yield connection

    def _made(self, connection: sa.Connection) -> bool:
        """Whether the tables exist. Raises StoreError if a newer program made them."""
        if not sa.inspect(connection).has_table(VERSIONS.name):
            return False
        version: int | None = connection.scalar(sa.select(sa.func.max(VERSIONS.c.version)))
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.location}: made by a newer speakerguard (schema {version}; this one knows "
                f"{SCHEMA_VERSION}). Upgrade with: pip install --upgrade speakerguard"
            )
        return version is not None

    def no_such(self, name: str) -> NoSuchProfileError:
        """That nobody is called so, for who runs the store: it says who is."""
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
            raise self._damaged(row.name, error) from error

    def _damaged(self, name: object, error: Exception) -> StoreError:
        return StoreError(
            f"{self.location}: the profile “{_shown(name)}” is damaged ({error}). Remove it and "
            "enrol again, or restore the store from a backup."
        )

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, ImportError, OSError) as error:
            cause = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            reason = (str(cause) or type(cause).__name__).splitlines()[0].rstrip(".")
            advice = next(text for sign, text in _ADVICE if sign in reason.lower())
            raise StoreError(f"profile store {self.location}: {reason}. {advice}") from error


def _shown(name: object) -> str:
    """A name as it can be shown and typed, also where a damaged row's is no text."""
    return printable(name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name)
