"""``advgan-train``: train a part of the attacker. Goes on after an interruption.

advgan-train vc --config configs/advgan-vc.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from advgan.training.config import AdversarialConfig, DetectorConfig, VcConfig, VocoderRunConfig
from speakerguard.cli.ending import ending
from speakerguard.settings import load_as
from speakerguard.sound.audio import printable
from speakerguard.training.loop import Loop, Report

KINDS = ("vc", "adversarial", "discriminator", "vocoder")


def train(kind: str, path: Path, report: Report = print) -> float:
    """Train by a configuration file; returns the best measure on dev, lower is better.

    Raises:
        SpeakerguardError: of a kind that says what to do.
    """
    # each kind loads its own part alone; the guard's network and its data come with them
    if kind == "vc":
        from advgan.training.vc_task import VcTask

        vc = load_as(path, VcConfig)
        return Loop(vc, VcTask(vc, report), report).run()
    if kind == "vocoder":
        from advgan.training.vocoder_task import VocoderTask

        vocoder = load_as(path, VocoderRunConfig)
        return Loop(vocoder, VocoderTask(vocoder, report), report).run()
    if kind == "adversarial":
        from advgan.training.adversarial_task import ConvertTask, PerturbTask

        attack = load_as(path, AdversarialConfig)
        task = ConvertTask if attack.mode == "convert" else PerturbTask
        return Loop(attack, task(attack, report), report).run()
    from advgan.training.detector_task import DetectorTask

    detector = load_as(path, DetectorConfig)
    return Loop(detector, DetectorTask(detector, report), report).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="advgan-train", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="what to train")
    parser.add_argument("--config", "-c", type=Path, required=True, help="a file of configs/")
    options = parser.parse_args(arguments)
    with ending("advgan-train"):
        train(options.kind, options.config, lambda line: print(printable(line), flush=True))


if __name__ == "__main__":
    main()
