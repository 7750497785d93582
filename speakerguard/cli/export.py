"""Commands that bring a checkpoint to other engines; :mod:`speakerguard.cli.app` registers them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from speakerguard.cli.options import TRAINED_MODEL, Trained


def export(
    to: Annotated[str, typer.Option(help="onnx, openvino, keras, saved_model or litert.")],
    model: Trained = TRAINED_MODEL,
    out: Annotated[
        Path | None, typer.Option(help="What to write; beside the weights if not given.")
    ] = None,
) -> None:
    """Write a guard for other engines, load it again and compare the two."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from speakerguard.export.formats import export as run

    done = run(model, to, out)
    print(f"{done.path}: {done.bytes / 1e6:.1f} MB; differs from torch by {done.difference:.1e}")


def quantise(
    speech: Annotated[Path, typer.Option(help="Folder of speech for the ranges, trained on.")],
    trials: Annotated[Path, typer.Option(help="Trial list to judge the result by.")],
    root: Annotated[Path, typer.Option(help="Folder that the list's paths are relative to.")],
    out: Annotated[Path, typer.Option(help="Folder of the 8-bit model.")],
    model: Trained = TRAINED_MODEL,
) -> None:
    """Make an 8-bit model of a guard, and say what that costs in error rates."""
    from speakerguard.evaluation.quantise import quantise as run
    from speakerguard.evaluation.trials import read_trials

    losses = run(model, out, speech, read_trials(trials), root)
    print(f"{out}: EER, float to 8 bits")
    for loss in losses:
        print(
            f"  {loss.condition:5} pooled {100 * loss.pooled:.2f} to {100 * loss.pooled_int8:.2f} %"
            f", mean over sources {100 * loss.mean:.2f} to {100 * loss.mean_int8:.2f} %"
        )
    print(f"Thresholds: speakerguard calibrate --model {out} --trials {trials} --root {root}")
