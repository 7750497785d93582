"""Commands that bring a checkpoint to other engines; :mod:`speakerguard.cli` registers them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def export(
    to: Annotated[str, typer.Option(help="onnx, openvino, keras, saved_model or litert.")],
    model: Annotated[
        str, typer.Option(help="Name of a shipped guard, or the folder of one.")
    ] = "guard",
    out: Annotated[
        Path | None, typer.Option(help="What to write; beside the weights if not given.")
    ] = None,
) -> None:
    """Write a guard for other engines, load it again and compare the two."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from speakerguard.export import export as run

    done = run(model, to, out)
    print(f"{done.path}: {done.bytes / 1e6:.1f} MB; differs from torch by {done.difference:.1e}")
