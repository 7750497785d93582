"""The command that compares two recordings; :mod:`speakerguard.cli.app` registers it."""

from __future__ import annotations

from pathlib import Path

import typer

from speakerguard.cli.options import (
    ACCEPT,
    DEFAULT_MODEL,
    REJECT,
    Channel,
    Channels,
    Engine,
    Json,
    Model,
    Point,
    Rate,
    Raw,
    ScoreNorm,
    Threshold,
    as_told,
    chosen_point,
    for_programs,
    make_verifier,
    print_json,
    print_score,
    print_warnings,
)


def compare(
    first: Path,
    second: Path,
    point: Point = None,
    threshold: Threshold = None,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    as_json: Json = False,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Tell whether one voice speaks in two recordings; exit code 0 says yes, 1 no."""
    asked = chosen_point(point, threshold)
    told = as_told(channel, raw, rate, channels)
    verifier = make_verifier(model, None, engine, score_norm)
    answer = verifier.compare_recordings(told(first), told(second), asked)
    if as_json:
        print_json(for_programs(answer))
    else:
        print(f"{'ACCEPT' if answer.accepted else 'REJECT'}  {answer.first} and {answer.second}")
        print_score(answer, "the two")
        print(f"  speech    {answer.net_seconds[0]:.1f} s and {answer.net_seconds[1]:.1f} s")
        print_warnings(answer.warnings)
    raise typer.Exit(ACCEPT if answer.accepted else REJECT)
