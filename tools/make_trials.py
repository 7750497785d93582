"""Make a trial list from a folder of speakers: ``python tools/make_trials.py FOLDER``.

Writes ``FOLDER/trials.txt`` in VoxCeleb format: up to 20 recordings of each speaker, drawn with a
fixed seed; each is claimed by up to five others of the speaker and by ten of other speakers of the
same source, since another microphone would give a stranger away.
"""

import argparse
import random
from pathlib import Path

from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError
from speakerguard.files import replace_file
from speakerguard.sound.corpus import find_utterances, source_of, speaker_of

RECORDINGS, TARGETS, NONTARGETS = 20, 5, 10


def make_trials(root: Path, seed: int = 0) -> list[str]:
    """Lines ``1|0 enrol test``; the same folder always gives the same ones.

    Raises:
        UsageError: the folder holds fewer than two speakers with two recordings each.
    """
    rng = random.Random(seed)
    speakers: dict[str, list[str]] = {}
    for path in find_utterances(root):
        speakers.setdefault(speaker_of(path.as_posix()), []).append(path.as_posix())
    kept = {
        name: rng.sample(found, min(RECORDINGS, len(found)))
        for name, found in speakers.items()
        if len(found) > 1
    }
    if len(kept) < 2:
        raise UsageError(f"{root}: trials need two speakers with two recordings each.")
    lines = set()
    for name, own in kept.items():
        strangers = [other for other in kept if other != name]
        near = [other for other in strangers if _source(kept[other]) == _source(own)]
        others = [path for other in near or strangers for path in kept[other]]
        for number, enrol in enumerate(own):
            later = own[number + 1 :]
            for test in rng.sample(later, min(TARGETS, len(later))):
                lines.add(f"1 {enrol} {test}")
            for test in rng.sample(others, min(NONTARGETS, len(others))):
                if f"0 {test} {enrol}" not in lines:  # the same question
                    lines.add(f"0 {enrol} {test}")
    return sorted(lines, reverse=True)


def _source(recordings: list[str]) -> str:
    return source_of(recordings[0])


def main() -> None:
    """Write the list and say how long it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    path = parser.parse_args().folder / "trials.txt"
    with ending("make_trials", "nothing was written"):
        lines = make_trials(path.parent)
        replace_file(path, "\n".join(lines) + "\n")
        print(f"{path}: {len(lines)} trials")


if __name__ == "__main__":
    main()
