"""Options that several commands share, how they make a verifier, show progress and answer."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from speakerguard.sound.speech import Caution
    from speakerguard.verification.answers import Comparison, Identification, Verification
    from speakerguard.verification.verifier import Verifier

Model = Annotated[
    str,
    typer.Option(
        help="Name of a model, as `speakerguard models` lists them, or the folder of one; ./NAME "
        "where a name is both.",
        envvar="SPEAKERGUARD_MODEL",
    ),
]
Trained = Annotated[
    str,
    typer.Option("--model", help="Name of a guard trained here, or the folder of one."),
]
_SQLITE = r"sqlite(\+\w+)?:/{2,3}"
_PASSING = re.compile(
    rf"({_SQLITE})?(file:)?:memory:|{_SQLITE}(\?|$)|({_SQLITE}|file:).*[?&]mode=memory"
)


def _lasting(store: str | None) -> str | None:
    """Refuse an SQLite database that would be gone when the command ends."""
    if store and _PASSING.match(store):
        raise typer.BadParameter(f"{store} is gone when the command ends; name a file.")
    return store


def finite(value: float | None) -> float | None:
    """Refuse nan and inf, which no range of an option stops."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


Store = Annotated[
    str | None,
    typer.Option(
        help="Where profiles live: a file, or a database URL; with ?mode=ro never written.",
        envvar="SPEAKERGUARD_STORE",
        callback=_lasting,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="What runs the guard: auto, onnxruntime, openvino or torch.",
        envvar="SPEAKERGUARD_ENGINE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Point = Annotated[
    str | None, typer.Option("--point", help="Operating point, such as fa-1% or eer.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        callback=finite,
        help="Accept from this score on, instead of an operating point; in the score's unit.",
    ),
]
Trials = Annotated[
    Path,
    typer.Option(help="Trial list as VoxCeleb, Kaldi, CN-Celeb, SASV or ASVspoof 5 write them."),
]
EnrolmentMap = Annotated[
    Path | None,
    typer.Option(
        help="Which recordings each model of the list has, a line 'model a.wav,b.wav': ASVspoof's "
        "enroll.tsv, CN-Celeb's enroll.map, Kaldi's spk2utt."
    ),
]


class WhenUnusable(StrEnum):
    """What is done about recordings that cannot be used."""

    FAIL = "fail"
    SKIP = "skip"


Unusable = Annotated[
    WhenUnusable,
    typer.Option(
        "--unusable", help="Recordings that cannot be used: end with an error, or go on without."
    ),
]
Root = Annotated[Path, typer.Option(help="Folder that the list's paths are relative to.")]
Seconds = Annotated[
    float | None,
    typer.Option(
        min=0.5, callback=finite, help="Use only the first seconds of speech of each file."
    ),
]
CountermeasureName = Annotated[
    str | None,
    typer.Option(
        "--countermeasure", help="Accept only what this one takes for real speech: discriminator."
    ),
]
DEFAULT_MODEL, TRAINED_MODEL = "fused", "guard"  # as in speakerguard.network.checkpoint
ACCEPT, REJECT = 0, 1  # exit codes
ScoreNorm = Annotated[
    bool | None,
    typer.Option(
        "--score-norm/--no-score-norm",
        help="Set scores against the model's cohort of strangers (AS-norm), or take plain cosines. "
        "By default, against the cohort where the model has one.",
    ),
]


def chosen_point(point: str | None, threshold: float | None) -> str | float | None:
    """The operating point, or the threshold of one's own, that decides.

    Raises:
        UsageError: both are given.
    """
    if point is not None and threshold is not None:
        raise UsageError("--point and --threshold: one threshold decides. Leave one out.")
    return point if threshold is None else threshold


def make_verifier(
    model: str,
    store: str | None = None,
    engine: str | None = None,
    score_norm: bool | None = None,
    countermeasure: str | None = None,
) -> Verifier:
    """The verifier that the options ask for."""
    from speakerguard.verification.verifier import Verifier

    return Verifier(model, store, engine, None, score_norm, countermeasure)


def tell_left_out(reasons: Collection[object], count: int) -> None:
    """List on standard error which of ``count`` recordings were left out, and why."""
    if reasons:
        from speakerguard.sound.audio import printable

        print(f"{len(reasons)} of {count} recordings left out:", file=sys.stderr)
        for reason in reasons:
            print(f"  {printable(reason)}", file=sys.stderr)


def for_programs(
    answer: Verification | Comparison | Identification, countermeasure: str | None = None
) -> dict[str, Any]:
    """An answer as commands give it in JSON: the decision in words, first, then all else.

    Args:
        countermeasure: the one that was asked.
    """
    from speakerguard.verification.answers import Identification

    fields = asdict(answer)
    said = {"countermeasure": countermeasure, "real_speech_llr": fields.pop("real_speech_llr")}
    if countermeasure is not None:
        fields = said | fields
    if isinstance(answer, Identification):
        return fields
    del fields["reason"]  # the threshold and the countermeasure's ratio say it
    return {"decision": "accept" if fields.pop("accepted") else "reject"} | fields


def print_json(answer: object) -> None:
    """An answer for a program, on standard output."""
    print(json.dumps(answer, ensure_ascii=False, indent=2))


def print_score(answer: Verification | Comparison, of: str) -> None:
    """Score, threshold, cosine of what was compared, and LLR, a line each."""
    print(
        f"  score     {answer.score:+.3f}  {answer.unit}; threshold {answer.threshold:+.3f} "
        f"({answer.operating_point})"
    )
    if answer.unit != "cosine":
        print(f"  cosine    {answer.cosine:+.3f}  of {of} alone")
    favours = "same" if answer.llr > 0 else "different"
    print(f"  LLR       {answer.llr:+6.2f}  natural log; favours {favours} speaker")


def print_warnings(warnings: Iterable[Caution]) -> None:
    """What lowers trust in an answer, a line each."""
    for warning in warnings:
        from speakerguard.sound.audio import printable

        print(f"  warning   {warning.code}: {printable(warning.message)}")


class Progress:
    """A progress bar with time left on standard error; gives a function that sets the count."""

    def __init__(self, what: str, total: int) -> None:
        from rich import progress as rich
        from rich.console import Console

        columns = (
            rich.TextColumn(what),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar = rich.Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.task = self.bar.add_task(what, total=total)

    def __enter__(self) -> Any:
        self.bar.start()
        return lambda done: self.bar.update(self.task, completed=done)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


# how recordings are to be read: the options, and what they make of a file
Channel = Annotated[
    int | None,
    typer.Option(min=1, help="Listen to this channel alone, from 1; else to the mean of all."),
]
Raw = Annotated[
    str | None,
    typer.Option(
        help="The recordings are samples without a header: ulaw, alaw, u8, s8, s16le, s16be, "
        "s24le, s24be, s32le, s32be, f32le or f32be. Needs --rate."
    ),
]
Rate = Annotated[int | None, typer.Option(help="Rate of --raw samples in Hz, such as 8000.")]
Channels = Annotated[int | None, typer.Option(help="Channels of --raw samples; one if not given.")]


def as_told(
    channel: int | None, raw: str | None, rate: int | None, channels: int | None
) -> Callable[[Any], Any]:
    """What makes of a file a recording that is read as the options say; they are checked here."""
    if channel is None and raw is None and rate is None and channels is None:
        return lambda file: file
    from speakerguard.sound.audio import Reading

    Reading(None, channel, raw, rate, channels)
    return lambda file: Reading(file, channel, raw, rate, channels)
