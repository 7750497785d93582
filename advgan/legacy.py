"""Weights of the original AGAIN-VC (``.pth``) in this package's generator.

    python -m advgan.legacy steps_100000.pth checkpoints/again-vc-original

The original took the logarithm without a floor; its weights meet ours at the same scale.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from advgan.networks import checkpoint
from advgan.networks.original import load_pth
from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.sound.audio import printable


def main(arguments: Sequence[str]) -> None:
    """Convert a ``.pth`` to a checkpoint's folder."""
    with ending("advgan.legacy", "nothing is kept"):
        if len(arguments) != 2:
            raise UsageError("usage: python -m advgan.legacy CHECKPOINT.pth FOLDER")
        source, folder = map(Path, arguments)
        path, about = folder / MODEL_FILE, {"objective": "vc", "converted_from": source.name}
        fingerprint = checkpoint.save("generator", load_pth(source), path, about=about)
        said = f"saved {path}, fingerprint {fingerprint}; use it with advgan-infer --load {folder}"
        print(printable(said))


if __name__ == "__main__":
    main(sys.argv[1:])
