"""The commands that enrol and decide; :mod:`speakerguard.cli.app` registers them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from speakerguard.cli import stream as cli_stream
from speakerguard.cli.options import (
    ACCEPT,
    DEFAULT_MODEL,
    REJECT,
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
    for_programs,
    make_verifier,
    print_json,
    print_score,
    print_warnings,
)
from speakerguard.errors import UsageError


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
    if file == Path("-") and not stream and not file.exists():
        raise UsageError("-: no such file. A pipe is followed with --stream.")
    asked = chosen_point(point, threshold)
    told = as_told(channel, raw, rate, channels)
    if stream:
        verifier = make_verifier(model, store, engine, score_norm, countermeasure)
        answer = cli_stream.follow(verifier, name, str(file), asked, told)
    else:
        from concurrent.futures import ThreadPoolExecutor

        from speakerguard.sound.speech import load_speech

        source = told(file)
        with ThreadPoolExecutor(1) as beside:  # while the model is loaded; a pipe may never end
            speech = beside.submit(load_speech, source) if file.is_file() else None
            try:
                verifier = make_verifier(model, store, engine, score_norm, countermeasure)
                answer = verifier.verify(name, speech.result() if speech else source, asked)
            finally:
                del speech  # its error refers to this frame, and this frame to it
    if as_json:
        print_json(for_programs(answer, countermeasure))
    else:
        print(f"{'ACCEPT' if answer.accepted else 'REJECT'}  {answer.speaker}")
        print_score(answer, "recording and profile")
        if (real := answer.real_speech_llr) is not None:
            print(f"  real      {real:+6.2f}  natural log; {countermeasure}; under 0 is rejected")
        print(f"  speech    {answer.net_seconds:.1f} s")
        print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.accepted else REJECT)


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
    told = as_told(channel, raw, rate, channels)
    verifier = make_verifier(model, store, engine, score_norm, countermeasure)
    answer = verifier.identify(told(file), asked, margin)
    if as_json:
        print_json(for_programs(answer, countermeasure))
    else:
        print(answer.speaker if answer.speaker else f"nobody: {answer.reason}")
        plain = answer.unit == "cosine"
        for (name, score), cosine in zip(answer.ranking[:top], answer.cosines, strict=False):
            print(f"  {score:+.3f}  {'' if plain else f'cosine {cosine:+.3f}  '}{name}")
        print(
            f"  threshold {answer.threshold:+.3f} ({answer.operating_point}), "
            f"margin {answer.margin:g}; scores are {answer.unit.replace('cosine', 'cosines')}"
        )
        if (real := answer.real_speech_llr) is not None:
            print(f"  real      {real:+6.2f}  natural log; {countermeasure}; under 0 names nobody")
        print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.speaker else REJECT)
