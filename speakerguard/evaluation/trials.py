"""Trial lists in, score files out, and who speaks in an utterance.

A trial asks whether the voice in a test utterance is the enrolled one. Lists are read as the
field writes them: VoxCeleb (``1 a b``), Kaldi (``a b target``), SASV (``a b spoof``, also with
a score or attack column before the label) and the ASVspoof 5 key with its header. Which one
a file is in follows from its lines. A trial without a label is an error: none is invented.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from speakerguard.errors import TrialError, UsageError
from speakerguard.files import replace_file

Item = TypeVar("Item")

LABELS = ("target", "nontarget", "spoof")

_DIGITS = {"1": "target", "0": "nontarget"}
_BESIDE_LABEL = re.compile(r"bonafide|spoof|-|[A-Z]\d\d|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_CONTRADICTIONS = {"target": {"spoof"}, "nontarget": {"spoof"}, "spoof": {"bonafide"}}
_SPACES_IN_NAMES = "If names hold spaces, put one tab between columns."

_Reading = tuple[str, str, str, str]  # enrol, test, label, what a countermeasure key says
_Reader = Callable[[list[str]], _Reading | None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One question: is the voice of ``enrol`` speaking in ``test``?

    Attributes:
        enrol, test: names as the list has them, usually paths below a common root.
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
        spaced = any(name.split() != [name] for name in {*self.enrol, *self.test})
        scores = map(repr, self.scores.tolist())
        columns = zip(self.labels.tolist(), scores, self.enrol, self.test, strict=True)
        return "".join(("\t" if spaced else " ").join(row) + "\n" for row in columns)

    def _labelled(self, label: str) -> npt.NDArray[np.float64]:
        chosen: npt.NDArray[np.float64] = self.scores[self.labels == label]
        return chosen


def read_trials(path: str | Path) -> list[Trial]:
    """The trials of a list, in order.

    Columns are separated by spaces or, where names hold spaces, by single tabs. Blank lines
    are skipped. The file is UTF-8.

    Formats (research notes, section 4): VoxCeleb ``1|0 enrol test``; Kaldi ``enrol test
    target|nontarget``; SASV the same with ``spoof``, also as ``enrol test score label`` and
    ``enrol test bonafide|attack label``; ASVspoof 5 keys, whose header names the columns
    ``spk``, ``filename`` and ``asv-label``.

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
    path = Path(path)
    rows = list(_rows(path))
    if not rows:
        raise TrialError(f"{path}: holds no trials. Put one on each line, such as '1 a.wav b.wav'.")
    header = rows[0][2] if "asv-label" in rows[0][2] else None
    readers = {"ASVspoof 5": _keyed(path, header)} if header else _READERS
    trials: dict[str, list[Trial]] = {name: [] for name in readers}  # for each possible format
    for line, text, columns in rows[1:] if header else rows:
        readings = {name: readers[name](columns) for name in trials}
        fitting = {name: reading for name, reading in readings.items() if reading and all(reading)}
        if not fitting:
            above = "" if line == rows[0][0] else " or ".join(trials)
            raise TrialError(_bad_line(path, line, text, _advice(columns, above)))
        trials = {name: trials[name] for name in fitting}
        for name, (enrol, test, label, countermeasure) in fitting.items():
            if countermeasure in _CONTRADICTIONS.get(label, ()):
                advice = f"is called both {countermeasure} and {label}. Remove the wrong label."
                raise TrialError(_bad_line(path, line, text, advice))
            trials[name].append(Trial(enrol, test, label, line))
    if len(trials) > 1:
        raise TrialError(
            f"{path}: every line can be read as {' and as '.join(trials)}. Rename the file called "
            "'target', 'nontarget' or 'spoof', or give the list in the other format."
        )
    (found,) = trials.values()
    if not found:
        raise TrialError(f"{path}: holds a header and no trials. Add one trial per line.")
    _check_agreement(path, [(t.line, t.enrol, t.test, t.label) for t in found])
    return found


def check_files(trials: Sequence[Trial], root: str | Path) -> dict[str, Path]:
    """Where each distinct utterance of ``trials`` lies below ``root``, in order of appearance.

    Raises:
        TrialError: a file is missing. The message names the trial line that asks for it, and
            how many more are missing.
    """
    root = Path(root)
    asked: dict[str, int] = {}
    for trial in trials:
        asked.setdefault(trial.enrol, trial.line)
        asked.setdefault(trial.test, trial.line)
    found = {name: root / name for name in asked}
    missing = [name for name, path in found.items() if not path.is_file()]
    if missing:
        more = f" ({len(missing) - 1} more missing)" if len(missing) > 1 else ""
        raise TrialError(
            f"{found[missing[0]]}: no such file, asked for by the trial on line "
            f"{asked[missing[0]]}{more}. Give the folder that the names in the list start from."
        )
    return found


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
    """Reads what :func:`write_scores` wrote; the label may also be 1 or 0, as VoxCeleb has it.

    Raises:
        TrialError: the file cannot be read or is empty; a line has other than four columns, no
            label, a score that is not a finite number, or contradicts another line.
    """
    path = Path(path)
    labels: list[str] = []
    scores: list[float] = []
    pairs: list[tuple[int, str, str, str]] = []
    for line, text, columns in _rows(path):
        if len(columns) != 4 or not all(columns):
            advice = f"is not 'label score enrol test'. {_SPACES_IN_NAMES}"
            raise TrialError(_bad_line(path, line, text, advice))
        label = _DIGITS.get(columns[0], columns[0])
        if label not in LABELS:
            advice = f"starts with none of the labels {', '.join(LABELS)}, 1, 0. Label the trial."
            raise TrialError(_bad_line(path, line, text, advice))
        score = _finite(columns[1])
        if score is None:
            advice = f"has the score {columns[1]!r}, which is no finite number. Score it again."
            raise TrialError(_bad_line(path, line, text, advice))
        labels.append(label)
        scores.append(score)
        pairs.append((line, columns[2], columns[3], label))
    if not pairs:
        raise TrialError(f"{path}: holds no scores. Make it with `speakerguard score`.")
    _check_agreement(path, pairs)
    enrol, test = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    return ScoreTable(np.array(labels, dtype=np.str_), np.array(scores), enrol, test)


@functools.lru_cache(1 << 17)
def speaker_of(utterance: str) -> str:
    """The speaker of an utterance, from the way corpora name their files.

    The folder that holds the file is the speaker, with the folders above it, so that speakers
    of two corpora stay apart. Two trees have a further level below the speaker, by which they
    are known: LibriSpeech chapters (``19/198/19-198-0001.flac``) and VoxCeleb videos
    (``id10270/x6uYqmx31kE/00001.wav``). Without folders it is a Kaldi id, ``speaker-utterance``;
    a bare name without ``-`` is taken for a speaker of its own.

    >>> speaker_of("vctk/p227/p227_001.wav"), speaker_of("19/198/19-198-0001.flac")
    ('vctk/p227', '19')
    >>> speaker_of("id10270/x6uYqmx31kE/00001.wav"), speaker_of("p227-001")
    ('id10270', 'p227')
    """
    path = utterance.replace("\\", "/")  # a list may have been made on Windows
    *folders, name = (part for part in PurePosixPath(path).parts if part != "/")
    if not folders:
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


def _rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, text and columns of each line that is not blank.

    Only ASCII spaces and tabs separate: names may hold any other white space there is.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise TrialError(f"{path}: cannot be read ({reason}). Check its name.") from error
    for line, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = raw.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            shown = raw.decode("utf-8", "backslashreplace")
            raise TrialError(
                _bad_line(path, line, shown, "is not UTF-8. Convert the file with iconv.")
            ) from error
        bare = text.strip(" \t")
        if bare:
            yield line, text, text.split("\t") if "\t" in bare else re.split(" +", bare)


def _voxceleb(columns: list[str]) -> _Reading | None:
    if len(columns) == 3 and columns[0] in _DIGITS:
        return columns[1], columns[2], _DIGITS[columns[0]], "-"
    return None


def _kaldi(columns: list[str]) -> _Reading | None:
    if len(columns) == 3 and columns[2] in LABELS:
        return columns[0], columns[1], columns[2], "-"
    return None


def _four(columns: list[str]) -> _Reading | None:
    if len(columns) == 4 and columns[3] in LABELS and _BESIDE_LABEL.fullmatch(columns[2]):
        return columns[0], columns[1], columns[3], columns[2]
    return None


_READERS: dict[str, _Reader] = {
    "VoxCeleb": _voxceleb,
    "Kaldi or SASV": _kaldi,
    "SASV with four columns": _four,
}


def _keyed(path: Path, header: list[str]) -> _Reader:
    """A reader of lines whose columns are named by this header."""
    for needed in ("spk", "filename"):
        if needed not in header:
            raise TrialError(
                f"{path}: line 1 is a header without the column '{needed}', so the lines are "
                "not trials. Give the key with the columns spk, filename, cm-label, asv-label."
            )
    spk, filename, asv = (header.index(name) for name in ("spk", "filename", "asv-label"))
    cm = header.index("cm-label") if "cm-label" in header else asv

    def read(columns: list[str]) -> _Reading | None:
        if len(columns) != len(header) or columns[asv] not in LABELS:
            return None
        return columns[spk], columns[filename], columns[asv], columns[cm]

    return read


def _check_agreement(path: Path, rows: Sequence[tuple[int, str, str, str]]) -> None:
    said: dict[tuple[str, str], tuple[int, str]] = {}
    for line, enrol, test, label in rows:
        first, before = said.setdefault((enrol, test), (line, label))
        if before != label:
            advice = f"contradicts line {first}, which says {before}. Remove the wrong one."
            raise TrialError(_bad_line(path, line, f"{enrol} {test} {label}", advice))


def _advice(columns: list[str], above: str) -> str:
    """What is wrong with a line that fits no format, and what to do."""
    if columns[0] not in _DIGITS and not any(column in LABELS for column in columns):
        return "has no label, and none is guessed. Label it target, nontarget or spoof, or 1 or 0."
    if above:
        return (
            f"is not in the format of the lines above it ({above}). Use one format in one file. "
            + _SPACES_IN_NAMES
        )
    return (
        "is in no known format. Write a label and two names on each line, '1 enrol test' or "
        f"'enrol test target'. {_SPACES_IN_NAMES}"
    )


def _bad_line(path: Path, line: int, text: str, advice: str) -> str:
    return f"{path}: line {line} {advice} The line: {text!r}"


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
