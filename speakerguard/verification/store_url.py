"""Which database a store's location names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

import sqlalchemy as sa
from sqlalchemy import exc

from speakerguard.errors import StoreError
from speakerguard.folders import expanded

EXAMPLE = "postgresql+psycopg://user@host/voices"


@dataclass(frozen=True)
class Place:
    """A database.

    Attributes:
        url: as SQLAlchemy opens it.
        path: of an SQLite file; None elsewhere and in memory.
        mode: how SQLite opens it: ``ro`` writes nothing, ``rw`` makes no file, ``rwc`` does.
    """

    url: sa.URL
    path: Path | None = None
    mode: str = "rwc"


def place(location: str) -> Place:
    """The database of a path, of a ``file:`` URI, or of a SQLAlchemy URL.

    ``mode=ro`` and ``immutable=1`` are honoured in ``file:`` URIs and in ``sqlite:///`` URLs.

    Raises:
        StoreError: the URL cannot be read.
    """
    if location.startswith("file:"):
        base, _, query = location.partition("?")
        url = sa.URL.create("sqlite", database=base, query=dict(parse_qsl(query)) | {"uri": "true"})
    elif "://" not in location:
        path = expanded(location)
        return Place(sa.URL.create("sqlite", database=str(path)), path)
    else:
        url = _parse(location)
    if url.get_backend_name() != "sqlite":
        return Place(url)
    asked = {name: str(value) for name, value in url.query.items()}
    mode = "ro" if asked.get("immutable") in ("1", "true") else asked.get("mode", "rwc")
    database = url.database or ""
    if database in ("", ":memory:") or database.startswith("file::memory:") or mode == "memory":
        return Place(url)
    if mode not in ("ro", "rw", "rwc"):
        raise StoreError(f"{location}: SQLite has the modes ro, rw and rwc, not {mode!r}.")
    if database.startswith("file:"):
        named = re.sub("^//(localhost)?(?=/)", "", unquote(database.removeprefix("file:")))
        return Place(url, Path(named), mode)
    if "mode" in asked or "immutable" in asked:  # which SQLite takes from a URI only
        uri = f"file:{quote(str(Path(database).absolute()))}"
        url = url.set(database=uri, query={**url.query, "uri": "true"})
    return Place(url, Path(database), mode)


def hidden(location: str) -> str:
    """A location without the password in it, wherever drivers take one."""
    # the last @ ends a password, also where one within it was not encoded
    named = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", location)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&]*", r"\1***", named)


def _parse(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # neither is shown: either may quote a password
        raise StoreError(
            f"the store's URL cannot be read. Give a path, or a URL such as {EXAMPLE}, with "
            "special characters percent-encoded."
        ) from None
