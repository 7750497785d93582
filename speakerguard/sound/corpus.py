"""Recordings in folders: which there are, and whose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from speakerguard.errors import UsageError
from speakerguard.sound.audio import AUDIO_SUFFIXES


def find_utterances(root: Path) -> list[Path]:
    """All recordings below ``root``, sorted, relative to it.

    Raises:
        UsageError: no such folder, or no recording in it.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder. Name the folder that holds the recordings.")
    found = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()
    )
    if not found:
        kinds = ", ".join(sorted(AUDIO_SUFFIXES))
        raise UsageError(f"{root}: holds no recordings ({kinds}), in any sub-folder.")
    return found


def require_speakers(root: Path, names: Iterable[str]) -> None:
    """Refuse recordings of which nothing says whose they are.

    Raises:
        UsageError: one lies in ``root`` itself, under a name that is no ``speaker-utterance``.
    """
    for name in names:
        if "/" not in name and "-" not in name:
            raise UsageError(
                f"{root / name}: in no speaker's folder. Put each speaker's recordings in a folder "
                "of that name, or name the files speaker-utterance."
            )
