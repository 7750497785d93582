"""Training speech: find utterances, cut them to speech, keep them ready on disk.

A folder of recordings becomes two files in a cache: all speech as 16-bit samples end to end,
and an index of segments of at most :data:`SEGMENT_SECONDS`. The index names each segment's
utterance and speaker. Reading, decoding and speech detection thus happen once.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerguard.errors import AudioError, UsageError
from speakerguard.files import replace_file, whole_file
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.sound.corpus import find_utterances, speaker_of
from speakerguard.sound.speech import PAD, load_speech
from speakerguard.workers import begin_worker

SEGMENT_SECONDS = 6.0
MIN_SEGMENT_SECONDS = 0.8
_Piece = tuple[npt.NDArray[np.int16], str | None, str]  # with its speaker and utterance
_VERSION = 1  # of the cache; raise it when the speech that is kept changes


@dataclass(frozen=True, eq=False)
class SpeechSet:
    """Segments of speech, ready to be cropped.

    Attributes:
        folder: where the cache lies.
        samples: int16 (total,), memory-mapped, 16 kHz.
        starts, lengths: int64 (segments,), in samples.
        speakers: speaker of each segment; None for recordings without labels.
        utterances: path of each segment's recording, relative to the corpus.
        skipped: recordings that were left out, each with the reason.
    """

    folder: Path
    samples: npt.NDArray[np.int16]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    speakers: tuple[str | None, ...]
    utterances: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        """Total speech in seconds."""
        return float(self.lengths.sum()) / SAMPLE_RATE

    def segment(self, index: int) -> npt.NDArray[np.float32]:
        """Segment ``index`` as a waveform: float32 (n,), 16 kHz."""
        start = self.starts[index]
        return self.samples[start : start + self.lengths[index]].astype(np.float32) / np.float32(
            32_768
        )


def prepare(
    root: Path,
    cache: Path,
    labelled: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    pad: int = PAD,
) -> SpeechSet:
    """Cut every recording below ``root`` to its speech, once; later calls read the cache.

    Recordings that cannot be read or hold too little speech are left out and listed under
    ``skipped``. The cache is renewed when a file is added, removed, renamed or another sound.

    Args:
        root: folder of ``speaker/utterance``, ``source/speaker/utterance`` or LibriSpeech's own.
        cache: folder under which caches are kept.
        labelled: False where folders are not speakers.
        workers: processes to use.
        progress: called with (done, total).
        pad: frames that are kept on either side of speech, at most as a verifier keeps.

    Raises:
        UsageError: no such folder, or no recording with usable speech in it.
    """
    utterances = find_utterances(root)
    files = [(path.as_posix(), *_look(root / path)) for path in utterances]
    recipe = json.dumps([_VERSION, labelled, SEGMENT_SECONDS, MIN_SEGMENT_SECONDS, pad, files])
    folder = cache / f"speech-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not (folder / "index.json").exists():
        _build(root, utterances, folder, labelled, workers, progress, pad)
    return load_prepared(folder)


def contents(folder: Path) -> list[tuple[str, int, int]]:
    """What changes with any file below ``folder``: names, sizes and checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), *_look(path)) for path in files]


def _look(path: Path) -> tuple[int, int]:
    """Size and a checksum of the middle: two sounds may well be of one name and length."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        return size, zlib.crc32(file.read(1024))


def _build(
    root: Path,
    utterances: list[Path],
    folder: Path,
    labelled: bool,
    workers: int,
    progress: Callable[[int, int], None] | None,
    pad: int,
) -> None:
    skipped: list[tuple[str, str]] = []

    def pieces() -> Iterator[_Piece]:
        for done, (path, result) in enumerate(_cut_all(root, utterances, workers, pad), 1):
            name = path.as_posix()
            if isinstance(result, str):
                skipped.append((name, result))
            elif not (found := _segments(result)):
                seconds = len(result) / SAMPLE_RATE
                skipped.append((name, f"{path.name}: only {seconds:.2f} s are left of it."))
            else:
                speaker = speaker_of(name) if labelled else None
                yield from ((piece, speaker, name) for piece in found)
            if progress:
                progress(done, len(utterances))

    if not _write(folder, root.name, pieces(), skipped):
        raise UsageError(f"{root}: no recording holds usable speech; the first: {skipped[0][1]}")


def _write(
    folder: Path, name: str, pieces: Iterable[_Piece], skipped: list[tuple[str, str]]
) -> int:
    """Write segments as :func:`load_prepared` reads them; returns how many; no empty set.

    ``skipped`` is read when all pieces are written.
    """
    rows: list[tuple[int, int, str | None, str]] = []
    position = 0
    with whole_file(folder / "speech.i16") as part, part.open("wb") as out:
        for piece, speaker, utterance in pieces:
            out.write(piece.tobytes())
            rows.append((position, len(piece), speaker, utterance))
            position += len(piece)
    if rows:
        index = {"root": name, "segments": rows, "skipped": skipped}
        replace_file(folder / "index.json", json.dumps(index))
    return len(rows)


def _cut_all(
    root: Path, utterances: list[Path], workers: int, pad: int
) -> Iterable[tuple[Path, npt.NDArray[np.int16] | str]]:
    full = [root / path for path in utterances]
    cut = partial(_cut, pad=pad)
    if workers <= 1:
        yield from zip(utterances, map(cut, full), strict=True)
        return
    with ProcessPoolExecutor(workers, initializer=begin_worker) as pool:
        yield from zip(utterances, pool.map(cut, full, chunksize=16), strict=True)


def _cut(path: Path, pad: int) -> npt.NDArray[np.int16] | str:
    try:
        speech = load_speech(path)
    except (AudioError, UsageError) as error:
        return str(error)
    return np.round(speech.within(pad) * 32_767).astype(np.int16)


def _segments(samples: npt.NDArray[np.int16]) -> list[npt.NDArray[np.int16]]:
    """Equal pieces of at most :data:`SEGMENT_SECONDS`; nothing under the minimum."""
    if len(samples) < MIN_SEGMENT_SECONDS * SAMPLE_RATE:
        return []
    count = int(np.ceil(len(samples) / (SEGMENT_SECONDS * SAMPLE_RATE)))
    return np.array_split(samples, count)


def load_prepared(folder: Path) -> SpeechSet:
    """The speech that was prepared in ``folder``."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    starts, lengths, speakers, utterances = zip(*index["segments"], strict=True)
    return SpeechSet(
        folder,
        np.memmap(folder / "speech.i16", dtype=np.int16, mode="r"),
        np.array(starts, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
        speakers,
        utterances,
        tuple((name, reason) for name, reason in index["skipped"]),
    )


def stretch(
    segment: npt.NDArray[np.float32], count: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A random stretch of ``count`` samples; a shorter segment is repeated."""
    if len(segment) < count:
        return np.resize(segment, count)
    start = int(rng.integers(len(segment) - count + 1))
    return segment[start : start + count]


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
