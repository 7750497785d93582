"""Trial lists in, score files out.

A trial asks whether the voice in a test utterance is the enrolled one. Lists are read as the
field writes them; :mod:`speakerguard.evaluation.lists` knows how. Which format a file is in
follows from its lines. A trial without a label is an error: none is invented.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerguard.errors import SpeakerguardError, TrialError, UsageError
from speakerguard.evaluation.lists import is_plain, readings
from speakerguard.files import replace_file
from speakerguard.sound.audio import AUDIO_SUFFIXES

Models = Mapping[str, Sequence[str]]  # the recordings of each enrolled model


@dataclass(frozen=True, slots=True)
class Trial:
    """One question: is the voice of ``enrol`` speaking in ``test``?

    Attributes:
        enrol, test: names as the list has them, usually paths below a common root; ``enrol`` may
            be a model, such as a speaker, whose recordings an enrolment map lists.
        label: ``target`` (same speaker), ``nontarget`` or ``spoof`` (made to sound the same).
        line: where the list says so, from 1.
    """

    enrol: str
    test: str
    label: str
    line: int


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored trials, in file order.

    Attributes:
        labels: str (n,), each ``target``, ``nontarget`` or ``spoof``.
        scores: float64 (n,), finite; higher means more alike.
        enrol, test: names, n each.
    """

    labels: npt.NDArray[np.str_]
    scores: npt.NDArray[np.float64]
    enrol: list[str]
    test: list[str]

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """Scores of the target trials."""
        return self._labelled("target")

    @property
    def nontargets(self) -> npt.NDArray[np.float64]:
        """Scores of the non-target trials, spoofs not among them."""
        return self._labelled("nontarget")

    @property
    def spoofs(self) -> npt.NDArray[np.float64]:
        """Scores of the spoof trials."""
        return self._labelled("spoof")

    def text(self) -> str:
        """The table as :func:`write_scores` stores it, byte for byte."""
        spaced = not all(map(is_plain, {*self.enrol, *self.test}))
        scores = map(repr, self.scores.tolist())
        columns = zip(self.labels.tolist(), scores, self.enrol, self.test, strict=True)
        return "".join(("\t" if spaced else " ").join(row) + "\n" for row in columns)

    def _labelled(self, label: str) -> npt.NDArray[np.float64]:
        chosen: npt.NDArray[np.float64] = self.scores[self.labels == label]
        return chosen


def read_trials(path: str | Path) -> list[Trial]:
    """The trials of a list, in order.

    Columns are separated by spaces or, where names hold spaces, by single tabs; between spaces,
    quotes keep a name together. Blank lines, and those that start with ``#``, are skipped. The
    file is UTF-8.

    Formats: VoxCeleb ``1|0 enrol test``; CN-Celeb ``enrol test 1|0``; Kaldi ``enrol test
    target|nontarget``; SASV the same with ``spoof``, also as ``enrol test bonafide|attack label``;
    ASVspoof 5, ``model test gender bonafide|attack label`` or with a header that names the columns
    ``spk``, ``filename`` and ``asv-label``; and the score files of :func:`read_scores`.

    Raises:
        TrialError: the file cannot be read or holds no trial; a line is malformed, unlabelled,
            in another format than the lines above it, or contradicts itself or another line.
            The message names file and line and shows the line.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("1 ann/1.wav ann/2.wav\\n0 ann/1.wav bo/1.wav\\n")
    ...     file.flush()
    ...     read_trials(file.name)[1]
    Trial(enrol='ann/1.wav', test='bo/1.wav', label='nontarget', line=2)
    """
    found = readings(Path(path), scored=False)
    return [Trial(enrol, test, label, line) for line, (enrol, test, label, *_) in found]


def check_files(
    trials: Sequence[Trial],
    root: str | Path,
    models: Models | None = None,
    left_out: dict[str, SpeakerguardError] | None = None,
) -> dict[str, Path]:
    """Where :func:`locate` finds each utterance of ``trials``, in order of appearance.

    Args:
        models: the recordings of enrolled models; other names are recordings themselves.
        left_out: takes the files that are missing; without it they are an error, as are all.

    Raises:
        TrialError: a file is missing. The message names the trial line that asks for it, and
            how many more are missing.
    """
    root, models = Path(root), models or {}
    asked: dict[str, int] = {}
    for trial in trials:
        for name in (*models.get(trial.enrol, (trial.enrol,)), trial.test):
            asked.setdefault(name, trial.line)
    found = {name: locate(root, name) for name in asked}
    missing = [name for name, file in found.items() if file is None]
    if left_out is not None and len(missing) < len(found):
        gone = {name: UsageError(f"{root / name}: no such file.") for name in missing}
        left_out.update(gone)
    elif missing:
        name = missing[0]
        more = f" ({len(missing) - 1} more missing)" if len(missing) > 1 else ""
        advice = "Give the folder that the names in the list start from."
        if any(trial.enrol == name for trial in trials):
            advice += " If it names a speaker, say which recordings are theirs: --enrolment-map."
        raise TrialError(
            f"{root / name}: no such file, asked for by the trial on line {asked[name]}{more}. "
            f"{advice}"
        )
    return {name: root / file for name, file in found.items() if file is not None}


def locate(root: Path, name: str) -> str | None:
    """The file below ``root`` that a list calls ``name``, as it is called there; None: no such.

    A list made on Windows may have backslashes, and one of ids may leave the file's suffix out.
    """
    for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
        for file in (spelled, *(spelled + suffix for suffix in sorted(AUDIO_SUFFIXES))):
            with contextlib.suppress(OSError, ValueError):  # no name that a file can have
                if (root / file).is_file():
                    return file
    return None


def write_scores(path: str | Path, trials: Sequence[Trial], scores: npt.ArrayLike) -> None:
    """Stores one line per trial, ``label score enrol test``, so that it reads back exactly.

    Columns are separated by a space, or by a tab if any name holds white space. The file
    appears whole or not at all.

    Args:
        scores: (n,), one for each trial, finite.

    Raises:
        TrialError: a score is NaN or infinite, or a name cannot stand in a line.
        UsageError: there are no trials, or not as many scores as trials.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(trials),) or not len(trials):
        raise UsageError(f"{path}: {len(trials)} trials but scores of shape {values.shape}.")
    for trial, value in zip(trials, values, strict=True):
        if not np.isfinite(value):
            raise TrialError(
                f"{path}: the score of the trial on line {trial.line} is {value} "
                f"('{trial.enrol}' against '{trial.test}'). Leave out what cannot be scored."
            )
        for name in (trial.enrol, trial.test):
            if not name or any(sign in name for sign in "\t\n\r"):
                raise TrialError(
                    f"{path}: the trial on line {trial.line} names {name!r}, which is empty or "
                    "holds a tab or line break. Rename the file."
                )
    labels = np.array([trial.label for trial in trials], dtype=np.str_)
    table = ScoreTable(labels, values, [t.enrol for t in trials], [t.test for t in trials])
    replace_file(path, table.text())


def read_scores(path: str | Path) -> ScoreTable:
    """Reads what :func:`write_scores` wrote, and score files of others that have labels.

    Formats: ``label score enrol test``; WeSpeaker, SASV and a-DCF ``enrol test score label``; with
    a header, ASVspoof 5's ``spk``, ``filename``, ``asv-score`` and ``asv-label``. A label may also
    be 1 or 0.

    Raises:
        TrialError: the file cannot be read or is empty; a line is in another format, has no
            label, a score that is not a finite number, or contradicts another line.
    """
    found = [reading for _, reading in readings(Path(path), scored=True)]
    return ScoreTable(
        labels=np.array([reading.label for reading in found], dtype=np.str_),
        scores=np.array([float(reading.score) for reading in found]),
        enrol=[reading.enrol for reading in found],
        test=[reading.test for reading in found],
    )
