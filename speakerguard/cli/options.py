"""Options that several commands share, and how they make a verifier and show progress."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from speakerguard.verification.verifier import Verifier

Model = Annotated[
    str,
    typer.Option(
        help="Name of a shipped guard, or the folder of one; ./NAME where a name is both."
    ),
]
_SQLITE = r"sqlite(\+\w+)?:/{2,3}"
_PASSING = re.compile(rf"({_SQLITE})?(file:)?:memory:|{_SQLITE}(\?|$|.*[?&]mode=memory)")


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
        help="Where profiles live: a database URL or a file.",
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
Trials = Annotated[Path, typer.Option(help="Trial list: VoxCeleb, Kaldi or SASV format.")]
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
DEFAULT_MODEL = "guard"
ScoreNorm = Annotated[
    bool | None,
    typer.Option(
        "--score-norm/--no-score-norm",
        help="Set scores against the model's cohort of strangers (AS-norm), or take plain cosines. "
        "By default, against the cohort where the model has one.",
    ),
]


def make_verifier(
    model: str, store: str | None = None, engine: str | None = None, score_norm: bool | None = None
) -> Verifier:
    """The verifier that the options ask for."""
    from speakerguard.verification.verifier import Verifier

    return Verifier(model, store, engine, score_norm=score_norm)


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
