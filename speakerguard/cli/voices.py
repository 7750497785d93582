"""The command that makes voices to train on; :mod:`speakerguard.cli.app` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speakerguard.cli.options import Unusable, WhenUnusable, finite


def voices(
    corpus: Annotated[Path, typer.Option(help="Folder of labelled speakers to start from.")],
    out: Annotated[Path, typer.Option(help="Folder to write to, or to go on in.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="formant, mixed or synthetic; all if not given.")
    ] = None,
    speakers: Annotated[
        int | None, typer.Option(min=1, help="Speakers to start from; all if not given.")
    ] = None,
    tries: Annotated[int, typer.Option(min=1, help="Candidates of each kind and speaker.")] = 2,
    clips: Annotated[int, typer.Option(min=2, help="Clips of each voice.")] = 8,
    apart: Annotated[
        float,
        typer.Option(callback=finite, help="Highest cosine of a new voice's mean to any other's."),
    ] = 0.75,
    coherent: Annotated[
        float, typer.Option(callback=finite, help="Lowest mean cosine between a new voice's clips.")
    ] = 0.6,
    unusable: Unusable = WhenUnusable.SKIP,
    seed: Annotated[int, typer.Option(min=0, help="Decides who becomes what.")] = 0,
    cache: Annotated[
        Path, typer.Option(help="Where prepared speech is kept; training shares it.")
    ] = Path("runs/cache"),
) -> None:
    """Make voices from a corpus, kept where the teacher (CAM++) hears a new one; goes on."""
    from speakerguard.training.voices import KINDS, VoicePlan, make_voices, summary

    kinds = tuple(dict.fromkeys(kind or KINDS))
    plan = VoicePlan(kinds, speakers, tries, clips, apart, coherent, seed)
    records = make_voices(
        corpus,
        out,
        plan,
        cache,
        lambda line: print(line, flush=True),
        unusable is WhenUnusable.SKIP,
    )
    print(summary(records))
    kept = sum(record["kept"] for record in records)
    print(f"{kept} voices in {out}, listed in {out / 'manifest.tsv'}")
