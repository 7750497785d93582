"""The command line. Every command is a thin layer over the library; slow imports stay inside.

Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, 4 no such or incompatible
profile; of ``doctor``, 1 where something is wrong; 70 is a bug.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from speakerguard.cli import compare as cli_compare
from speakerguard.cli import export as cli_export
from speakerguard.cli import profiles as cli_profiles
from speakerguard.cli import quiet
from speakerguard.cli import stream as cli_stream
from speakerguard.cli import trials as cli_trials
from speakerguard.cli import voices as cli_voices
from speakerguard.cli.ending import ending
from speakerguard.cli.options import (
    DEFAULT_MODEL,
    Channel,
    Channels,
    CountermeasureName,
    Engine,
    Json,
    Model,
    Point,
    Rate,
    Raw,
    ScoreNorm,
    Store,
    Threshold,
    Unusable,
    WhenUnusable,
    as_told,
    chosen_point,
    finite,
    make_verifier,
    print_json,
    print_warnings,
)
from speakerguard.errors import UsageError

if TYPE_CHECKING:
    from speakerguard.verification.countermeasure import Countermeasure

ACCEPT, REJECT = 0, 1

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, "
    "4 no such or incompatible profile.",
)
app.add_typer(cli_profiles.profiles, name="profiles")


def _show_version(wanted: bool) -> None:
    if wanted:
        from speakerguard import __version__

        print(f"speakerguard {__version__}")
        raise typer.Exit


@app.callback()
def speakerguard(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Speaker verification that attacks itself."""


@app.command()
def enroll(
    name: str,
    files: list[Path],
    replace: Annotated[bool, typer.Option(help="Overwrite an existing profile.")] = False,
    add: Annotated[bool, typer.Option("--add", help="Add to an existing profile.")] = False,
    unusable: Unusable = WhenUnusable.FAIL,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Make a voice profile of NAME from one or more recordings."""
    told = as_told(channel, raw, rate, channels)
    verifier = make_verifier(model, store, engine, score_norm)
    recordings = [told(file) for file in files]
    enrolment = verifier.enroll(name, recordings, replace, add, unusable is WhenUnusable.SKIP)
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
        print_json(answer)
        return
    count = len(profile.embeddings)
    print(
        f"enrolled {profile.name} from {count} recording{'s' * (count != 1)}, "
        f"{sum(profile.net_seconds):.1f} s of speech"
    )
    if (cohesion := profile.cohesion()) is not None:
        print(f"  cohesion  {cohesion:.3f}  (lowest cosine of one recording with the others)")
    print_warnings(enrolment.warnings)


@app.command()
def verify(
    name: str,
    file: Annotated[Path, typer.Argument(help="A recording; with --stream, - or mic.")],
    point: Point = None,
    threshold: Threshold = None,
    stream: Annotated[
        bool,
        typer.Option(
            help="Judge 16-bit PCM while it comes: FILE is - (a pipe) or mic. What has no WAV "
            "header is read as mono, 16 kHz, little-endian."
        ),
    ] = False,
    countermeasure: CountermeasureName = None,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Check the claim that FILE is the voice of NAME; exit code 0 accepts, 1 rejects."""
    if stream and countermeasure is not None:
        raise UsageError("--countermeasure judges whole recordings; leave --stream out.")
    if file == Path("-") and not stream and not file.exists():
        raise UsageError("-: no such file. A pipe is followed with --stream.")
    asked = chosen_point(point, threshold)
    detector = _detector(countermeasure)
    told = as_told(channel, raw, rate, channels)
    if stream:
        verifier = make_verifier(model, store, engine, score_norm)
        answer = cli_stream.follow(verifier, name, str(file), asked, told)
        real = None
    else:
        from concurrent.futures import ThreadPoolExecutor

        from speakerguard.sound.speech import load_speech

        source = told(_read_once(file) if detector else file)
        with ThreadPoolExecutor(1) as beside:  # while the model is loaded; a pipe may never end
            speech = beside.submit(load_speech, source) if file.is_file() else None
            try:
                verifier = make_verifier(model, store, engine, score_norm)
                answer = verifier.verify(name, speech.result() if speech else source, asked)
            finally:
                del speech  # its error refers to this frame, and this frame to it
        real = detector.llr(source) if detector else None
    accepted = answer.accepted and (real is None or real >= 0)
    if as_json:
        decision: dict[str, Any] = {"decision": "accept" if accepted else "reject"}
        if real is not None:
            decision |= {"countermeasure": countermeasure, "real_speech_llr": real}
        print_json(decision | {k: v for k, v in asdict(answer).items() if k != "accepted"})
    else:
        print(f"{'ACCEPT' if accepted else 'REJECT'}  {answer.speaker}")
        print(
            f"  score     {answer.score:+.3f}  {answer.unit}; threshold {answer.threshold:+.3f} "
            f"({answer.operating_point})"
        )
        if answer.unit != "cosine":
            print(f"  cosine    {answer.cosine:+.3f}  of recording and profile alone")
        favours = "same" if answer.llr > 0 else "different"
        print(f"  LLR       {answer.llr:+6.2f}  natural log; favours {favours} speaker")
        if real is not None:
            print(f"  real      {real:+6.2f}  natural log; {countermeasure}; under 0 is rejected")
        print(f"  speech    {answer.net_seconds:.1f} s")
        print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if accepted else REJECT)


@app.command()
def identify(
    file: Path,
    point: Point = None,
    threshold: Threshold = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0, callback=finite, help="Lead over the next score: by default 0.05."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many candidates to show; JSON has all.")] = 5,
    countermeasure: CountermeasureName = None,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    store: Store = None,
    as_json: Json = False,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Name the enrolled speaker of FILE; exit code 1 where nobody clearly fits."""
    asked = chosen_point(point, threshold)
    detector = _detector(countermeasure)
    told = as_told(channel, raw, rate, channels)
    verifier = make_verifier(model, store, engine, score_norm)
    source = told(_read_once(file) if detector else file)
    answer = verifier.identify(source, asked, margin)
    real = detector.llr(source) if detector else None
    if real is not None and real < 0 and answer.speaker:
        reason = f"{countermeasure} takes it for made speech"
        answer = replace(answer, speaker=None, reason=reason)
    if as_json:
        judged = {"countermeasure": countermeasure, "real_speech_llr": real}
        print_json(asdict(answer) | (judged if detector else {}))
    else:
        print(answer.speaker if answer.speaker else f"nobody: {answer.reason}")
        plain = answer.unit == "cosine"
        for (name, score), cosine in zip(answer.ranking[:top], answer.cosines, strict=False):
            print(f"  {score:+.3f}  {'' if plain else f'cosine {cosine:+.3f}  '}{name}")
        print(
            f"  threshold {answer.threshold:+.3f} ({answer.operating_point}), "
            f"margin {answer.margin:g}; scores are {answer.unit.replace('cosine', 'cosines')}"
        )
        if real is not None:
            print(f"  real      {real:+6.2f}  natural log; {countermeasure}; under 0 names nobody")
        print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.speaker else REJECT)


def _detector(name: str | None) -> Countermeasure | None:
    """The countermeasure that was asked for."""
    if name is None:
        return None
    from speakerguard.verification import countermeasure

    return countermeasure.load(name)


def _read_once(file: Path) -> Path | bytes:
    """What two may read: of a pipe, which can be read only once, its contents."""
    from speakerguard.sound.sources import read_once

    return read_once(file) if file.is_fifo() else file


app.command()(cli_compare.compare)
for command in (cli_trials.embed, cli_trials.score, cli_trials.evaluate, cli_trials.calibrate):
    app.command()(command)
app.command()(cli_trials.cohort)


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
    from speakerguard.export.deep_speaker import convert as run

    print(run(source, out))


app.command()(cli_export.export)
app.command()(cli_export.quantise)
app.command()(cli_voices.voices)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation, with advice for each thing wrong."""
    from speakerguard.cli import doctor as clinic

    checks = clinic.diagnose()
    if as_json:
        print_json(clinic.as_dict(checks))
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


def main() -> NoReturn:
    """Entry point."""
    atexit.register(gc.freeze)  # or Python's end looks through all it imported for cycles, slowly
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # starting more takes numpy's import long
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # none is used; looking takes long
    with ending("speakerguard", command="".join(sys.argv[1:2])):
        if _is_own(sys.argv[1:2]):
            quiet.own_words()
        else:  # looking for other packages' commands takes long
            _plug_in()
        app()
    sys.exit(ACCEPT)


if __name__ == "__main__":
    main()
