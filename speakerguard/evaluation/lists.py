"""Lines of trial lists and score files, and which of the field's formats a file is in.

One reader serves all lists: UTF-8 with or without a byte order mark, lines that end as on Windows
or not, ``#`` before a comment, blank lines. Columns are separated by spaces, or by single tabs
where names hold spaces; between spaces, quotes keep a name together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from speakerguard.errors import TrialError

LABELS = ("target", "nontarget", "spoof")
SPACES_IN_NAMES = "If names hold spaces, put one tab between columns."

_DIGITS = {"1": "target", "0": "nontarget"}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SPOKEN = re.compile(r"bonafide|spoof|-|[A-Z]+\d\d")  # what a countermeasure key says
_GENDER = re.compile(r"[A-Za-z]+|-")
_CONTRADICTIONS = {"target": {"spoof"}, "nontarget": {"spoof"}, "spoof": {"bonafide"}}
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')(?= |$)|([^ ]+)""")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its number from 1, its text, and the ways to cut it, the likeliest first."""

    line: int
    text: str
    cuts: tuple[list[str], ...]


class Reading(NamedTuple):
    """What a line says in one format.

    Attributes:
        label: ``target``, ``nontarget`` or ``spoof``.
        countermeasure: what a key says of the test utterance: ``bonafide``, an attack, or ``-``.
        score: as written; empty where the format has none.
    """

    enrol: str
    test: str
    label: str
    countermeasure: str = "-"
    score: str = ""


Reader = Callable[[list[str]], Reading | None]


def rows(path: Path) -> Iterator[Row]:
    """Each line that is neither blank nor a comment.

    Only ASCII spaces and tabs separate: names may hold any other white space there is.

    Raises:
        TrialError: the file cannot be read, or a line is not UTF-8.
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
                bad_line(path, line, shown, "is not UTF-8. Convert the file with iconv.")
            ) from error
        bare = text.strip(" \t")
        if not bare or bare.startswith("#"):
            continue
        if "\t" in bare:  # tabs may also only align the columns
            yield Row(line, text, (text.split("\t"), re.split("[ \t]+", bare)))
        else:
            found = _QUOTED.finditer(bare)
            yield Row(line, text, ([m[1] or m[2] or m[3] or "" for m in found],))


def readings(path: Path, scored: bool) -> list[tuple[int, Reading]]:
    """Number and meaning of each line, in the one format that all lines are in.

    Args:
        scored: take formats with a score only.

    Raises:
        TrialError: no format or more than one fits all lines; a line is unlabelled, has a score
            that is not a finite number, or contradicts itself or another line; or there is none.
    """
    found = list(rows(path))
    made_by = "Make it with `speakerguard score`." if scored else (
        "Put one on each line, such as '1 a.wav b.wav'."
    )  # fmt: skip
    kind = "scores" if scored else "trials"
    if not found:
        raise TrialError(f"{path}: holds no {kind}. {made_by}")
    header = next((cut for cut in found[0].cuts if {"asv-label", "asv-score"} & {*cut}), None)
    if header:
        readers: Mapping[str, Reader] = {"ASVspoof 5": _keyed(path, header, scored)}
        found = found[1:]
        if not found:
            raise TrialError(f"{path}: holds a header and no {kind}. Add one trial per line.")
    else:
        readers = _SCORED if scored else {**_PLAIN, **_SCORED}
    read: dict[str, list[tuple[int, Reading]]] = {name: [] for name in readers}
    for row in found:
        fitting = _fitting(row, {name: readers[name] for name in read}, scored)
        if not fitting:
            above = "" if row is found[0] else " or ".join(read)
            raise TrialError(bad_line(path, row.line, row.text, _advice(row, above, scored)))
        for reading in fitting.values():
            if reading.countermeasure in _CONTRADICTIONS.get(reading.label, ()):
                advice = f"is called both {reading.countermeasure} and {reading.label}. "
                advice += "Remove the wrong label."
                raise TrialError(bad_line(path, row.line, row.text, advice))
        if scored and not any(_finite(reading.score) for reading in fitting.values()):
            score = next(iter(fitting.values())).score
            advice = f"has the score {score!r}, which is no finite number. Score it again."
            raise TrialError(bad_line(path, row.line, row.text, advice))
        read = {name: read[name] for name in fitting}
        for name, reading in fitting.items():
            read[name].append((row.line, reading))
    if len(read) > 1:
        raise TrialError(
            f"{path}: every line can be read as {' and as '.join(read)}. Rename what is called "
            "like a label ('target', 'nontarget', 'spoof', '1' or '0'), or give the list in "
            "another format."
        )
    (chosen,) = read.values()
    _check_agreement(path, chosen)
    return chosen


def read_enrolment_map(path: str | Path) -> dict[str, tuple[str, ...]]:
    """The recordings of each enrolled model: ``model file file…`` or ``model file,file…`` a line.

    So does ASVspoof 5 write them (``track_2.enroll.tsv``), and ASVspoof 2019, CN-Celeb
    (``enroll.lst``, ``enroll.map``) and Kaldi (``spk2utt``). Lines of one model add up.

    Raises:
        TrialError: the file cannot be read or is empty, or a line names no recording.
    """
    path = Path(path)
    models: dict[str, dict[str, None]] = {}
    for row in rows(path):
        model, *columns = row.cuts[0]
        names = [name for column in columns for name in column.split(",") if name]
        if not model or not names:
            advice = "names no recording. Write a model and its recordings: 'model a.wav,b.wav'."
            raise TrialError(bad_line(path, row.line, row.text, advice))
        models.setdefault(model, {}).update(dict.fromkeys(names))
    if not models:
        raise TrialError(f"{path}: holds no models. Put one on each line: 'model a.wav,b.wav'.")
    return {model: tuple(names) for model, names in models.items()}


def is_plain(name: str) -> bool:
    """Whether a name can stand between spaces as it is."""
    return name.split() == [name] and name[0] not in "\"'"


def bad_line(path: Path, line: int, text: str, advice: str) -> str:
    """The message about one line, which it shows."""
    return f"{path}: line {line} {advice} The line: {text!r}"


def _fitting(row: Row, readers: Mapping[str, Reader], scored: bool) -> dict[str, Reading]:
    """What the line says in each format that it fits; only where none does, with a bad score."""
    for columns in row.cuts:
        said = {name: read(columns) for name, read in readers.items()}
        fitting = {name: r for name, r in said.items() if r and r.enrol and r.test}
        if fitting:
            right = {name: r for name, r in fitting.items() if not r.score or _finite(r.score)}
            return right or (fitting if scored else {})
    return {}


def _finite(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _label(text: str) -> str:
    """The label that a column is; empty where it is none."""
    return text if text in LABELS else _DIGITS.get(text, "")


def _voxceleb(columns: list[str]) -> Reading | None:
    if len(columns) == 3 and columns[0] in _DIGITS:
        return Reading(columns[1], columns[2], _DIGITS[columns[0]])
    return None


def _kaldi(columns: list[str]) -> Reading | None:
    if len(columns) == 3 and columns[2] in LABELS:
        return Reading(columns[0], columns[1], columns[2])
    return None


def _cnceleb(columns: list[str]) -> Reading | None:
    if len(columns) == 3 and columns[2] in _DIGITS:
        return Reading(columns[0], columns[1], _DIGITS[columns[2]])
    return None


def _sasv(columns: list[str]) -> Reading | None:
    if len(columns) == 4 and columns[3] in LABELS and _SPOKEN.fullmatch(columns[2]):
        return Reading(columns[0], columns[1], columns[3], columns[2])
    return None


def _asvspoof5(columns: list[str]) -> Reading | None:
    if (
        len(columns) == 5
        and columns[4] in LABELS
        and _GENDER.fullmatch(columns[2])
        and _SPOKEN.fullmatch(columns[3])
    ):
        return Reading(columns[0], columns[1], columns[4], columns[3])
    return None


def _label_first(columns: list[str]) -> Reading | None:
    if len(columns) == 4 and _label(columns[0]):
        return Reading(columns[2], columns[3], _label(columns[0]), score=columns[1])
    return None


def _label_last(columns: list[str]) -> Reading | None:
    if (
        len(columns) in (4, 8)  # with normalised scores WeSpeaker adds four numbers
        and _label(columns[3])
        and columns[0] not in LABELS
        and not _SPOKEN.fullmatch(columns[2])
        and all(map(_NUMBER.fullmatch, columns[4:]))
    ):
        return Reading(columns[0], columns[1], _label(columns[3]), score=columns[2])
    return None


_PLAIN: dict[str, Reader] = {
    "VoxCeleb": _voxceleb,
    "Kaldi or SASV": _kaldi,
    "CN-Celeb": _cnceleb,
    "SASV with four columns": _sasv,
    "ASVspoof 5": _asvspoof5,
}
_SCORED: dict[str, Reader] = {
    "scores, label first": _label_first,
    "scores, label last": _label_last,
}


def _keyed(path: Path, header: list[str], scored: bool) -> Reader:
    """A reader of lines whose columns are named by this header."""
    for needed in ("spk", "filename", "asv-label", *(["asv-score"] * scored)):
        if needed not in header:
            raise TrialError(
                f"{path}: line 1 is a header without the column '{needed}', so the lines are "
                f"not {'scored ' * scored}trials. Give the columns spk, filename, cm-label, "
                f"asv-label{', asv-score' * scored}."
            )
    spk, filename, asv = (header.index(name) for name in ("spk", "filename", "asv-label"))
    cm = header.index("cm-label") if "cm-label" in header else asv
    score = header.index("asv-score") if scored else None

    def read(columns: list[str]) -> Reading | None:
        if len(columns) != len(header) or columns[asv] not in LABELS:
            return None
        value = "" if score is None else columns[score]
        return Reading(columns[spk], columns[filename], columns[asv], columns[cm], value)

    return read


def _check_agreement(path: Path, found: list[tuple[int, Reading]]) -> None:
    said: dict[tuple[str, str], tuple[int, str]] = {}
    for line, (enrol, test, label, *_) in found:
        first, before = said.setdefault((enrol, test), (line, label))
        if before != label:
            advice = f"contradicts line {first}, which says {before}. Remove the wrong one."
            raise TrialError(bad_line(path, line, f"{enrol} {test} {label}", advice))


def _advice(row: Row, above: str, scored: bool) -> str:
    """What is wrong with a line that fits no format, and what to do."""
    columns = row.cuts[-1]
    if not any(column in LABELS for column in columns) and not {columns[0], columns[-1]} & {
        *_DIGITS
    }:
        return "has no label, and none is guessed. Label it target, nontarget or spoof, or 1 or 0."
    if above:
        return (
            f"is not in the format of the lines above it ({above}). Use one format in one file. "
            + SPACES_IN_NAMES
        )
    known = "'label score enrol test' or 'enrol test score label'"
    if not scored:
        known = "a label and two names, '1 enrol test', 'enrol test 1' or 'enrol test target'"
    return f"is in no known format. Write {known} on each line. {SPACES_IN_NAMES}"
