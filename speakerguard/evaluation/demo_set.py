"""The speech that the demos run on.

It comes from the first of: the folder ``SPEAKERGUARD_DATA``, the shared corpus's dev split, a
LibriSpeech part under ``data/``, voices made offline by a synthesiser. Speakers are taken in turn
from each source of the data; of each, the longest recordings. No score plays a part in that.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import soundfile

from speakerguard.errors import UsageError, printable
from speakerguard.sound.corpus import find_utterances, source_of, speaker_of

SPEAKERS = 8
ENROL = 3  # recordings a speaker; the next one is the probe
OUT = Path("out/demo")

Chosen = dict[str, list[Path]]  # speakers, and their recordings relative to the data's folder


def find_data() -> tuple[Path, str]:
    """The folder to take speech from, and a sentence about it."""
    if named := os.environ.get("SPEAKERGUARD_DATA"):
        return Path(named), f"speech from {printable(named)}, the folder in SPEAKERGUARD_DATA"
    shared = Path("../shared/corpus/dev")
    if shared.is_dir():
        return shared, "real speech from ../shared/corpus/dev"
    for part in sorted(Path("data/LibriSpeech").glob("*-*")):
        if part.is_dir():
            return part, f"real speech from {part}"
    from speakerguard.sound.espeak import synthesise

    folder = OUT / "voices"
    synthesise(folder, speakers=SPEAKERS, utterances=ENROL + 1)
    about = "synthetic voices, made just now; real ones are those that SPEAKERGUARD_DATA names"
    return folder, about


def choose(root: Path) -> Chosen:
    """Speakers and their longest recordings, longest first; sources of the data take turns."""
    recordings: dict[str, list[Path]] = defaultdict(list)
    for path in find_utterances(root):
        recordings[speaker_of(path.as_posix())].append(path)
    fitting = sorted(speaker for speaker, paths in recordings.items() if len(paths) > ENROL)
    if len(fitting) < 2:
        raise UsageError(
            f"{root}: the demo needs 2 speakers with {ENROL + 1} recordings each, in folders named "
            f"after them. Here {len(fitting)} of {len(recordings)} speakers have so many."
        )
    sources: dict[str, list[str]] = defaultdict(list)
    for speaker in fitting:
        sources[source_of(recordings[speaker][0].as_posix())].append(speaker)
    chosen: list[str] = []
    while len(chosen) < SPEAKERS and any(sources.values()):
        for waiting in sources.values():
            chosen += waiting[:2]  # two of a kind, to make each other's false claims hard
            del waiting[:2]
    return {
        speaker: sorted(recordings[speaker], key=lambda path: -_seconds(root / path))[: ENROL + 1]
        for speaker in chosen[:SPEAKERS]
    }


def _seconds(path: Path) -> float:
    try:
        return float(soundfile.info(path).duration)
    except RuntimeError:  # not audio: only taken where there is nothing else
        return 0.0
