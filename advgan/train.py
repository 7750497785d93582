"""``advgan-train``: train a part of the attacker. Goes on after an interruption.

advgan-train vc --config configs/advgan-vc.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advgan.command import Parser
from advgan.training.config import (
    AdversarialConfig,
    AttackerRunConfig,
    DetectorConfig,
    VcConfig,
    VocoderRunConfig,
)
from speakerguard.cli.ending import ending
from speakerguard.processes import torch_threads
from speakerguard.progress import Tell
from speakerguard.settings import load_as
from speakerguard.sound.audio import printable
from speakerguard.training.loop import Loop, Task

SCHEMAS: dict[str, type[AttackerRunConfig]] = {
    "vc": VcConfig,
    "adversarial": AdversarialConfig,
    "discriminator": DetectorConfig,
    "vocoder": VocoderRunConfig,
}


def train(kind: str, path: Path, report: Tell = print) -> float:
    """Train by a configuration file; returns the best measure on dev, lower is better.

    Raises:
        SpeakerguardError: of a kind that says what to do.
    """
    config = load_as(path, SCHEMAS[kind])
    with torch_threads(config.threads):  # what a task prepares repeats exactly, too
        return Loop(config, task_of(config, report), report).run()


def task_of(config: AttackerRunConfig, report: Tell = print) -> Task:
    """What a configuration trains. Each kind loads its own part alone."""
    if isinstance(config, VcConfig):
        from advgan.training.vc_task import VcTask

        return VcTask(config, report)
    if isinstance(config, VocoderRunConfig):
        from advgan.training.vocoder_task import VocoderTask

        return VocoderTask(config, report)
    if isinstance(config, AdversarialConfig):
        from advgan.training.adversarial_task import ConvertTask, PerturbTask

        return (ConvertTask if config.mode == "convert" else PerturbTask)(config, report)
    assert isinstance(config, DetectorConfig)
    from advgan.training.detector_task import DetectorTask

    return DetectorTask(config, report)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="advgan-train", description=__doc__)
    parser.add_argument("kind", choices=SCHEMAS, help="what to train")
    parser.add_argument("--config", "-c", type=Path, required=True, help="a file of configs/")
    options = parser.parse_args(arguments)
    with ending("advgan-train"):
        train(options.kind, options.config, lambda line: print(printable(line), flush=True))


if __name__ == "__main__":
    main()
