"""Recordings in folders: which there are, and whose."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from speakerguard.errors import UsageError
from speakerguard.sound.audio import AUDIO_SUFFIXES

Item = TypeVar("Item")


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


@functools.lru_cache(1 << 17)
def speaker_of(utterance: str) -> str:
    """The speaker of an utterance, from the way corpora name their files.

    The folder that holds the file is the speaker, with the folders above it, so that speakers
    of two corpora stay apart. Two trees have a further level below the speaker, by which they
    are known: LibriSpeech chapters (``19/198/19-198-0001.flac``) and VoxCeleb videos
    (``id10270/x6uYqmx31kE/00001.wav``). Without folders it is a Kaldi id, ``speaker-utterance``;
    a bare name without ``-`` is taken for a speaker of its own. CN-Celeb's evaluation names the
    speaker in the file, ``test/id00800-singing-01-002.wav``.

    >>> speaker_of("vctk/p227/p227_001.wav"), speaker_of("19/198/19-198-0001.flac")
    ('vctk/p227', '19')
    >>> speaker_of("id10270/x6uYqmx31kE/00001.wav"), speaker_of("p227-001")
    ('id10270', 'p227')
    """
    path = utterance.replace("\\", "/")  # a list may have been made on Windows
    *folders, name = [part for part in PurePosixPath(path).parts if part != "/"] or [""]
    if not folders or re.match(r"id\d{5}-", name):
        return name.split("-", 1)[0] or name
    if len(folders) > 1:
        speaker, below = folders[-2:]
        if name.startswith(f"{speaker}-{below}-") or re.fullmatch(r"id\d{5}", speaker):
            folders.pop()
    return "/".join(folders)


def source_of(utterance: str) -> str:
    """The corpus an utterance belongs to: the topmost folder above its speaker's, or ``""``.

    >>> source_of("vctk/p227/p227_001.wav"), source_of("p227/p227_001.wav")
    ('vctk', '')
    """
    source, slash, _ = speaker_of(utterance).partition("/")
    return source if slash else ""


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items of a list, evenly from first to last.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    kept = min(len(items), most)
    return [items[index * len(items) // kept] for index in range(kept)]
