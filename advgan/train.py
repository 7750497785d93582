"""``advgan-train``: train a part of the attacker. Goes on after an interruption.

advgan-train vc --config configs/advgan-vc.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from advgan.loop import Loop, Report
from speakerguard.audio import printable
from speakerguard.config import load_as
from speakerguard.errors import SpeakerguardError

KINDS = ("vc", "adversarial", "discriminator", "vocoder")


def train(kind: str, path: Path, report: Report = print) -> float:
    """Train by a configuration file; returns the best measure on dev, lower is better.

    Raises:
        SpeakerguardError: of a kind that says what to do.
    """
    from advgan import config as c

    if kind == "vc":
        from advgan.conversion import VcTask

        vc = load_as(path, c.VcConfig)
        return Loop(vc, VcTask(vc, report), report).run()
    raise NotImplementedError(kind)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="advgan-train", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="what to train")
    parser.add_argument("--config", "-c", type=Path, required=True, help="a file of configs/")
    options = parser.parse_args(arguments)
    try:
        train(options.kind, options.config, lambda line: print(printable(line), flush=True))
    except SpeakerguardError as error:
        print(f"advgan-train: {printable(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("advgan-train: stopped; the same command goes on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
