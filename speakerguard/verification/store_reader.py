"""Profiles read from an SQLite file without SQLAlchemy, whose import takes longer than a decision.

Only what is plainly there is read here. In every other case (another database, no such file,
another schema, nobody of that name, a damaged row) the answer is None, and
:class:`speakerguard.verification.store.ProfileStore` decides and explains.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from speakerguard.errors import UsageError
from speakerguard.verification.profile import Profile, clean_name

ENVIRONMENT = "SPEAKERGUARD_STORE"
SCHEMA_VERSION = 1  # raise it with every change to the tables in speakerguard.verification.store
_COLUMNS = "name, fingerprint, utterances, dimension, embeddings, net_seconds, sources, created"


def read(location: str | os.PathLike[str] | None, name: str | None = None) -> list[Profile] | None:
    """All profiles, whichever model made them, sorted by name; None: ask the store.

    Args:
        location: as :class:`speakerguard.verification.store.ProfileStore` takes it.
        name: of the one profile wanted.

    Raises:
        UsageError: ``name`` is unfit to be one.
    """
    wanted = None if name is None else clean_name(name)
    where = os.fspath(location or os.environ.get(ENVIRONMENT) or default_path())
    file = where.removeprefix("sqlite:///")
    path = Path(where).expanduser() if file == where else Path(file)  # a URL's ~ is a name
    if "://" in file or not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            if database.execute("SELECT max(version) FROM schema_versions").fetchone() != (
                SCHEMA_VERSION,
            ):
                return None
            query = f"SELECT {_COLUMNS} FROM profiles"
            if wanted is None:
                rows = database.execute(query).fetchall()
            else:
                rows = database.execute(f"{query} WHERE name = ?", (wanted,)).fetchall()
        return [unpacked(*row) for row in sorted(rows)] or None
    except (sqlite3.Error, TypeError, ValueError, UsageError):
        return None


def unpacked(
    name: str,
    fingerprint: str,
    utterances: int,
    dimension: int,
    embeddings: Any,
    net_seconds: str,
    sources: str,
    created: str,
) -> Profile:
    """The profile of one row.

    Raises:
        ValueError, UsageError: the row is damaged.
    """
    try:
        return Profile(
            name,
            fingerprint,
            np.frombuffer(embeddings, "<f4").reshape(utterances, dimension),
            json.loads(net_seconds),
            json.loads(sources),
            datetime.fromisoformat(created),
        )
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def default_path() -> Path:
    """Where profiles live unless somebody says otherwise."""
    return platformdirs.user_data_path("speakerguard") / "profiles.db"
