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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerguard import folders
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
    query = f"SELECT {_COLUMNS} FROM profiles"
    if wanted is None:
        rows = _query(location, query)
    else:
        rows = _query(location, f"{query} WHERE name = ?", wanted)
    try:
        return [unpacked(*row) for row in sorted(rows or ())] or None
    except (TypeError, ValueError, UsageError):
        return None


@dataclass(frozen=True, eq=False)
class Crowd:
    """Everybody whom one model enrolled, as identifying needs them.

    Attributes:
        names: sorted.
        centroids: float32 (n, dimension), each of length 1.
        others: how many profiles are of other models.
    """

    names: list[str]
    centroids: npt.NDArray[np.float32]
    others: int


def read_crowd(
    location: str | os.PathLike[str] | None, fingerprint: str, dimension: int
) -> Crowd | None:
    """All profiles of a model at once, in a fiftieth of the time; None: ask the store.

    Args:
        location: as :class:`speakerguard.verification.store.ProfileStore` takes it.
        fingerprint, dimension: of the model's embeddings.
    """
    rows = _query(
        location,
        "SELECT name, utterances, dimension, embeddings FROM profiles WHERE fingerprint = ? "
        "ORDER BY name",
        fingerprint,
    )
    everybody = _query(location, "SELECT count(*) FROM profiles")
    if not rows or not everybody:
        return None
    centroids = np.empty((len(rows), dimension), np.float32)
    places: dict[int, list[int]] = {}
    for place, (name, utterances, width, embeddings) in enumerate(rows):
        if not (
            isinstance(name, str)
            and isinstance(embeddings, bytes)
            and width == dimension
            and isinstance(utterances, int)
            and utterances > 0
            and len(embeddings) == 4 * utterances * dimension
        ):
            return None
        places.setdefault(utterances, []).append(place)
    for utterances, alike in places.items():
        joined = b"".join(rows[place][3] for place in alike)
        voices = np.frombuffer(joined, "<f4").reshape(len(alike), utterances, dimension)
        if not np.allclose(np.linalg.norm(voices, axis=2), 1, rtol=0, atol=1e-3):  # NaN is not
            return None
        means = voices.mean(axis=1)
        centroids[alike] = means / np.linalg.norm(means, axis=1, keepdims=True)
    if not np.isfinite(centroids).all():
        return None
    return Crowd([row[0] for row in rows], centroids, everybody[0][0] - len(rows))


def _query(location: str | os.PathLike[str] | None, query: str, *values: str) -> list[Any] | None:
    """Rows of an SQLite file of the schema known here, opened for reading; None: ask the store."""
    where = os.fspath(location or os.environ.get(ENVIRONMENT) or default_path())
    file = where.removeprefix("sqlite:///")
    path = folders.expanded(where) if file == where else Path(file)  # a URL's ~ is a name
    try:
        if "://" in file or not path.is_file():
            return None
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            version = database.execute("SELECT max(version) FROM schema_versions").fetchone()
            if version != (SCHEMA_VERSION,):
                return None
            return database.execute(query, values).fetchall()
    except (sqlite3.Error, OSError, ValueError):
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
    texts = {"model": fingerprint, "durations": net_seconds, "sources": sources, "date": created}
    if not isinstance(embeddings, (bytes, bytearray, memoryview)):
        raise ValueError("its embeddings are no bytes")
    if wrong := [what for what, value in texts.items() if not isinstance(value, str)]:
        raise ValueError(f"its {' and '.join(wrong)} is no text")
    try:
        return Profile(
            name,
            fingerprint,
            np.frombuffer(embeddings, "<f4").reshape(utterances, dimension),
            tuple(_listed(net_seconds, (int, float))),
            tuple(_listed(sources, str)),
            datetime.fromisoformat(created),
        )
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _listed(text: str, kind: type | tuple[type, ...]) -> list[Any]:
    """The list that a column of JSON is."""
    found = json.loads(text)
    if not (isinstance(found, list) and all(isinstance(item, kind) for item in found)):
        raise ValueError("its durations or sources are no list of such")
    return found


def default_path() -> Path:
    """Where profiles live unless somebody says otherwise."""
    return folders.data_folder() / "profiles.db"
