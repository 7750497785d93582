"""The command line. Every command is a thin layer over the library; slow imports stay inside.

Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, 4 no such or incompatible
profile; of ``doctor``, 1 where something is wrong; 70 is a bug.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from speakerguard import cli_export, cli_stream
from speakerguard.errors import SpeakerguardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speakerguard.speech import Warning
    from speakerguard.trials import ScoreTable, Trial
    from speakerguard.verifier import Verifier

ACCEPT, REJECT, BUG = 0, 1, 70

app = typer.Typer(
    help="Speaker verification that attacks itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, "
    "4 no such or incompatible profile.",
)
profiles = typer.Typer(help="List, show and remove enrolled voices.", no_args_is_help=True)
app.add_typer(profiles, name="profiles")

Model = Annotated[str, typer.Option(help="Name of a shipped guard, or the folder of one.")]
Store = Annotated[
    str | None,
    typer.Option(
        help="Where profiles live: a database URL or a file.", envvar="SPEAKERGUARD_STORE"
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
    float | None, typer.Option(min=0.5, help="Use only the first seconds of speech of each file.")
]
DEFAULT_MODEL = "guard"


@app.command()
def enroll(
    name: str,
    files: list[Path],
    replace: Annotated[bool, typer.Option(help="Overwrite an existing profile.")] = False,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Make a voice profile of NAME from one or more recordings."""
    enrolment = _verifier(model, store, engine).enroll(name, files, replace=replace)
    profile = enrolment.profile
    answer: dict[str, Any] = {
        "speaker": profile.name,
        "utterances": len(profile.embeddings),
        "net_seconds": sum(profile.net_seconds),
        "cohesion": profile.cohesion(),
        "model": profile.fingerprint,
        "warnings": [asdict(warning) for warning in enrolment.warnings],
    }
    if as_json:
        _print_json(answer)
        return
    print(
        f"enrolled {profile.name} from {len(files)} recording{'s' * (len(files) != 1)}, "
        f"{sum(profile.net_seconds):.1f} s of speech"
    )
    if (cohesion := profile.cohesion()) is not None:
        print(f"  cohesion  {cohesion:.3f}  (lowest cosine of one recording with the others)")
    _print_warnings(enrolment.warnings)


@app.command()
def verify(
    name: str,
    file: Annotated[Path, typer.Argument(help="A recording; with --stream, - or mic.")],
    point: Point = None,
    stream: Annotated[
        bool, typer.Option(help="Judge 16-bit PCM while it comes: FILE is - (a pipe) or mic.")
    ] = False,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Check the claim that FILE is the voice of NAME; exit code 0 accepts, 1 rejects."""
    verifier = _verifier(model, store, engine)
    if stream:
        answer = cli_stream.follow(verifier, name, str(file), point)
    else:
        answer = verifier.verify(name, file, point)
    if as_json:
        decision = {"decision": "accept" if answer.accepted else "reject"}
        _print_json(decision | {k: v for k, v in asdict(answer).items() if k != "accepted"})
    else:
        print(f"{'ACCEPT' if answer.accepted else 'REJECT'}  {answer.speaker}")
        print(
            f"  score     {answer.score:+.3f}  cosine; threshold {answer.threshold:+.3f} "
            f"({answer.operating_point})"
        )
        favours = "same" if answer.llr > 0 else "different"
        print(f"  LLR       {answer.llr:+.2f}  natural log; favours {favours} speaker")
        print(f"  speech    {answer.net_seconds:.1f} s")
        _print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.accepted else REJECT)


@app.command()
def identify(
    file: Path,
    point: Point = None,
    margin: Annotated[float, typer.Option(min=0, help="Lead over the next profile.")] = 0.05,
    top: Annotated[int, typer.Option(min=1, help="How many candidates to show.")] = 5,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Name the enrolled speaker of FILE; exit code 1 where nobody clearly fits."""
    answer = _verifier(model, store, engine).identify(file, point, margin)
    if as_json:
        _print_json(asdict(answer))
    else:
        print(answer.speaker if answer.speaker else f"nobody: {answer.reason}")
        for name, score in answer.ranking[:top]:
            print(f"  {score:+.3f}  {name}")
        print(f"  threshold {answer.threshold:+.3f} ({answer.operating_point}), margin {margin:g}")
        _print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.speaker else REJECT)


@profiles.command("list")
def profiles_list(store: Store = None, as_json: Json = False) -> None:
    """Names of all enrolled voices."""
    from speakerguard.store import ProfileStore

    names = ProfileStore(store).names()
    if as_json:
        _print_json(names)
    elif names:
        print("\n".join(names))
    else:
        print("nobody is enrolled", file=sys.stderr)


@profiles.command("show")
def profiles_show(name: str, store: Store = None, as_json: Json = False) -> None:
    """What is kept of NAME."""
    from speakerguard.store import ProfileStore

    profile = ProfileStore(store).get(name)
    answer = {
        "speaker": profile.name,
        "model": profile.fingerprint,
        "created": profile.created.isoformat(timespec="seconds"),
        "cohesion": profile.cohesion(),
        "utterances": [
            {"source": source, "net_seconds": seconds}
            for source, seconds in zip(profile.sources, profile.net_seconds, strict=True)
        ],
    }
    if as_json:
        _print_json(answer)
        return
    print(f"{profile.name}: enrolled {answer['created']} with model {profile.fingerprint}")
    for source, seconds in zip(profile.sources, profile.net_seconds, strict=True):
        print(f"  {seconds:5.1f} s  {source}")


@profiles.command("remove")
def profiles_remove(name: str, store: Store = None) -> None:
    """Forget NAME."""
    from speakerguard.store import ProfileStore

    ProfileStore(store).remove(name)
    print(f"removed {name}")


@app.command()
def embed(
    files: list[Path],
    out: Annotated[Path, typer.Option(help="The .npz file to write; keys are the paths given.")],
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Embed FILES into an .npz: one float32 vector a key."""
    from zipfile import ZipFile

    from numpy.lib.format import write_array

    from speakerguard.audio import printable
    from speakerguard.evaluate import embed_files

    if out.suffix != ".npz":
        raise UsageError(f"{out}: the output must end in .npz.")
    named = {printable(file): file for file in files}
    with _progress("embedding", len(named)) as progress:
        embeddings = embed_files(_verifier(model, engine=engine), named.items(), None, progress)
    part = out.with_name(out.name + ".part")
    with ZipFile(part, "w") as archive:  # numpy.savez could not store a key called "file"
        for key, embedding in embeddings.items():
            with archive.open(f"{key}.npy", "w") as member:
                write_array(member, embedding)
    part.replace(out)
    print(f"{len(embeddings)} embeddings in {out}")


@app.command()
def score(
    trials: Trials,
    root: Root,
    out: Annotated[Path, typer.Option(help="Score file: label, score, enrol, test a line.")],
    seconds: Seconds = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Score a trial list; each file is embedded once."""
    from speakerguard.trials import read_trials, write_scores

    listed = read_trials(trials)
    table = _score(_verifier(model, engine=engine), listed, root, seconds)
    write_scores(out, listed, table.scores)
    print(f"{len(table.scores)} scores in {out}")


@app.command()
def evaluate(
    scores: Annotated[Path | None, typer.Argument(help="Score file made by `score`.")] = None,
    trials: Annotated[Path | None, typer.Option(help="Trial list, instead of scores.")] = None,
    root: Annotated[Path, typer.Option(help="Folder of the list's paths.")] = Path(),
    out: Annotated[Path | None, typer.Option(help="Folder for JSON and plots.")] = None,
    seconds: Seconds = None,
    babble: Annotated[
        float | None, typer.Option(help="Put four other talkers so many dB below each probe.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Replicates for intervals.")] = 1000,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Error rates of a score file or a trial list, by source, with plots where --out is given."""
    from speakerguard import evaluate as evaluation
    from speakerguard.metrics import det_curve
    from speakerguard.plots import plot_det, plot_scores
    from speakerguard.trials import read_scores, read_trials, replace_file

    if scores is not None and trials is None and seconds is None and babble is None:
        table, llr = read_scores(scores), None
        about: dict[str, Any] = {"scores": scores.name}
    elif scores is not None or trials is None:
        raise UsageError("evaluate needs a score file, or --trials with --root, not both.")
    else:
        verifier = _verifier(model, engine=engine)
        llr = verifier.calibration.calibration.llr
        table = _score(verifier, read_trials(trials), root, seconds, babble)
        about = {
            "model": verifier.model,
            "fingerprint": verifier.fingerprint,
            "trials": trials.name,
            "babble_db": babble,
        }
    results = evaluation.evaluate(table, llr, bootstrap)
    print(evaluation.as_table(results))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "results.json", evaluation.as_json(results, **about, seconds=seconds))
        replace_file(out / "scores.txt", table.text())
        plot_det({"pooled": det_curve(table.targets, table.nontargets)}, out / "det.png")
        marks = {"EER": results[-1].threshold}
        plot_scores(table.targets, table.nontargets, out / "scores.png", marks)
        print(f"\nresults.json, scores.txt, det.png and scores.png are in {out}", file=sys.stderr)


@app.command()
def calibrate(
    trials: Trials,
    root: Root,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Learn thresholds and likelihood ratios from a trial list; kept beside the model."""
    from speakerguard import calibration, checkpoint
    from speakerguard.trials import read_trials

    verifier = _verifier(model, engine=engine)
    table = _score(verifier, read_trials(trials), root)
    file = calibration.calibrate(
        table, verifier.fingerprint, trials.name, weights=calibration.source_weights(table)
    )
    path = verifier.embedder.folder / checkpoint.CALIBRATION_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(path)
    print(f"{path}:")
    for point in file.points.values():
        print(
            f"  {point.name:8} threshold {point.threshold:+.4f}  "
            f"P_fa {100 * point.p_fa:.2f} %  P_miss {100 * point.p_miss:.2f} %"
        )


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="A file such as configs/guard.yaml.")],
    init: Annotated[str | None, typer.Option(help="Model to start from, a name or folder.")] = None,
) -> None:
    """Train a guard; goes on where an interrupted run stopped."""
    from speakerguard.train import train as run

    rate = run(config, lambda line: print(line, flush=True), init)
    print(f"best EER on dev: {100 * rate:.2f} %")


@app.command()
def convert(source: Path, out: Path) -> None:
    """Turn a Deep Speaker checkpoint (.h5) into a model's folder, or such a folder into .h5."""
    from speakerguard.convert import convert as run

    print(run(source, out))


app.command()(cli_export.export)
app.command()(cli_export.quantise)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation, with advice for each thing wrong."""
    from speakerguard import doctor as clinic

    checks = clinic.diagnose()
    if as_json:
        _print_json(clinic.as_dict(checks))
    else:
        print(clinic.report(checks))
    raise typer.Exit(clinic.exit_code(checks))


def _is_own(arguments: list[str]) -> bool:
    """Whether the first argument names a command of this package."""
    named = [command.callback.__name__ for command in app.registered_commands if command.callback]
    named += [str(group.name) for group in app.registered_groups]
    return bool(arguments) and arguments[0] in named


def _plug_in() -> None:
    """Add the commands that installed packages offer as entry points ``speakerguard.commands``."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="speakerguard.commands"):
        try:
            app.command(entry.name)(entry.load())
        except Exception as error:  # whatever another package does wrong, the rest must run
            print(f"speakerguard: no command {entry.name!r} ({error!r}).", file=sys.stderr)


def _verifier(model: str, store: str | None = None, engine: str | None = None) -> Verifier:
    from speakerguard.verifier import Verifier

    return Verifier(model, store, engine)


def _score(
    verifier: Verifier,
    trials: list[Trial],
    root: Path,
    seconds: float | None = None,
    babble: float | None = None,
) -> ScoreTable:
    from speakerguard.evaluate import score_trials

    tests = {trial.test for trial in trials}
    files = tests | {trial.enrol for trial in trials}
    with _progress("embedding", len(files) + len(tests) * (babble is not None)) as progress:
        return score_trials(verifier, trials, root, seconds, progress, babble)


class _progress:
    """A progress bar with time left on standard error; gives a function that sets the count."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(what), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.task = self.bar.add_task(what, total=total)

    def __enter__(self) -> Any:
        self.bar.start()
        return lambda done: self.bar.update(self.task, completed=done)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _print_json(answer: object) -> None:
    print(json.dumps(answer, ensure_ascii=False, indent=2))


def _print_warnings(warnings: Sequence[Warning]) -> None:
    for warning in warnings:
        print(f"  warning   {warning.code}: {warning.message}")


def main() -> NoReturn:
    """Entry point: errors become one line on standard error and their exit code.

    An error nobody foresaw ends in a traceback and 70, so that it is never taken for a rejection.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when `| head` has seen enough
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # none is used; looking takes long
    try:
        if not _is_own(sys.argv[1:2]):  # looking for other packages' commands takes long
            _plug_in()
        app()
    except SpeakerguardError as error:
        print(f"speakerguard: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(
            f"speakerguard: {error}. Check the path, its permissions and the disk.", file=sys.stderr
        )
        sys.exit(UsageError.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(BUG)
    sys.exit(ACCEPT)


if __name__ == "__main__":
    main()
