"""The user's own folders, and private places in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from speakerguard.errors import StoreError, UsageError

_OWN = 0o700
_NO_HOME = "HOME is not set, and this user has no entry in passwd"


def data_folder() -> Path:
    """Where profiles live unless somebody says otherwise.

    Raises:
        StoreError: the user has no home folder.
    """
    if (found := _own(platformdirs.user_data_path)) is None:
        raise StoreError(
            f"there is no home folder to keep profiles in ({_NO_HOME}). Name a file with --store "
            "or SPEAKERGUARD_STORE."
        )
    return found


def cache_folder() -> Path:
    """Where what was downloaded is kept.

    Raises:
        UsageError: the user has no home folder.
    """
    if (found := _own(platformdirs.user_cache_path)) is None:
        raise UsageError(
            f"there is no home folder to keep downloads in ({_NO_HOME}). Name a folder with "
            "XDG_CACHE_HOME."
        )
    return found


def _own(kind: Callable[[str], Path]) -> Path | None:
    """The user's own folder of a kind; None without a home, as in containers run as a number."""
    try:
        found = kind("speakerguard")
    except RuntimeError:
        return None
    return found if found.is_absolute() else None  # older platformdirs leave a ~ in it


def expanded(path: str) -> Path:
    """``path`` with ``~`` as the home folder.

    Raises:
        StoreError: the user has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise StoreError(
            f"{path}: no such home folder. Name a whole path with --store or SPEAKERGUARD_STORE."
        ) from None


def make_private(file: Path) -> None:
    """Make an empty file and the folders above it, for the user alone, where there are none.

    Raises:
        OSError: that cannot be done.
    """
    missing = [folder for folder in file.absolute().parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(_OWN, exist_ok=True)
        folder.chmod(_OWN)  # whatever the umask
    try:
        file.touch(0o600, exist_ok=False)
    except FileExistsError:
        return
    file.chmod(0o600)


def read_by_others(file: Path) -> bool:
    """Whether other users can read a file, as far as its mode and its folder's say."""
    if os.name != "posix":
        return False
    others = file.stat().st_mode & 0o044
    way = file.absolute().parent.stat().st_mode & 0o011
    return bool((others & 0o004 and way & 0o001) or (others & 0o040 and way & 0o010))
