"""Who attacks whom: pairs of voices, from a list, a trial list, or the demo's speakers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speakerguard.errors import TrialError
from speakerguard.evaluation.demo_set import ENROL, choose
from speakerguard.evaluation.lists import LABELS, bad_line, rows
from speakerguard.evaluation.trials import locate, read_trials
from speakerguard.sound.corpus import speaker_of


@dataclass(frozen=True)
class Pair:
    """Who attacks whom: paths below the data's folder.

    Attributes:
        source: the attacker's own speech.
        target: a recording of the target that the attacker has.
        enrol: what the target enrolled, none of it known to the attacker.
        line: of the list that says so; 0 without a list.
    """

    source: str
    target: str
    enrol: tuple[str, ...]
    line: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """All recordings of the pair."""
        return (self.source, self.target, *self.enrol)


def read_pairs(path: Path, root: Path) -> list[Pair]:
    """Pairs of a list: ``source<TAB>target<TAB>enrol…``, or a trial list of any format.

    From a trial list each non-target trial makes a pair: its test utterance is the source, and
    the test utterance of a target trial with the same enrolment is the target.

    Raises:
        TrialError: a line cannot be used or a file is missing; the message names both.
    """
    listed = [(row, row.text.rstrip("\t").split("\t")) for row in rows(path)]
    if listed and all(len(c) >= 3 and c[0] not in {"0", "1"} and c[-1] not in {*LABELS, "0", "1"}
                      for _, c in listed):  # fmt: skip
        for row, columns in listed:
            if not all(columns):
                advice = "has an empty column. Columns are source, target, enrol, a tab between."
                raise TrialError(bad_line(path, row.line, row.text, advice))
        pairs = [Pair(c[0], c[1], tuple(c[2:]), row.line) for row, c in listed]
    else:
        pairs = _from_trials(path)
    pairs = [_located(pair, root, path) for pair in pairs]
    several = len({speaker_of(name) for pair in pairs for name in pair.files}) > 1
    for pair in pairs:
        if pair.target in pair.enrol:
            raise TrialError(
                f"{path}: line {pair.line} gives the attacker a recording that is enrolled "
                f"({pair.target}). Name another of the same speaker."
            )
        own = {speaker_of(name) for name in (pair.target, *pair.enrol)}
        if pair.source in pair.enrol or (several and speaker_of(pair.source) in own):
            raise TrialError(
                f"{path}: line {pair.line} lets {speaker_of(pair.source)} attack their own voice "
                f"({pair.source}). Columns are source, target, enrol: another speaker's recording "
                "first."
            )
    return pairs


def _located(pair: Pair, root: Path, path: Path) -> Pair:
    """The pair with its recordings called as they lie below ``root``."""
    found = []
    for name in pair.files:
        if (file := locate(root, name)) is None:
            raise TrialError(
                f"{root / name}: no such file, asked for by line {pair.line} of {path}. "
                "Names in the list start from the folder given with it."
            )
        found.append(file)
    return Pair(found[0], found[1], tuple(found[2:]), pair.line)


def _from_trials(path: Path) -> list[Pair]:
    trials = read_trials(path)
    own = {trial.enrol: trial.test for trial in trials if trial.label == "target"}
    pairs = [
        Pair(trial.test, own[trial.enrol], (trial.enrol,), trial.line)
        for trial in trials
        if trial.label == "nontarget" and trial.enrol in own
    ]
    if not pairs:
        raise TrialError(
            f"{path}: no non-target trial shares its enrolment with a target trial, so there is "
            "nobody to attack with a recording. Give pairs: source, target, enrol."
        )
    return pairs


def demo_pairs(root: Path) -> list[Pair]:
    """The speakers of ``make demo``, in its order: each is attacked by its partner."""
    chosen = choose(root)
    speakers = list(chosen)
    pairs = []
    for index, speaker in enumerate(speakers):
        partner = speakers[index ^ 1] if index ^ 1 < len(speakers) else speakers[0]
        recordings = [path.as_posix() for path in chosen[speaker]]
        source = chosen[partner][ENROL].as_posix()
        pairs.append(Pair(source, recordings[ENROL], tuple(recordings[:ENROL])))
    return pairs


def training_folder(root: Path) -> Path | None:
    """The folder ``train`` beside the folder of the recordings, if there is one."""
    beside = root.resolve().parent / "train"
    return beside if beside.is_dir() else None
