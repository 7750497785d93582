"""What tests of the attacker's training share: a few real clips, and runs of two steps."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advgan.training.adversarial_task import ConvertTask, PerturbTask
from advgan.training.config import (
    AdversarialConfig,
    AttackerRunConfig,
    DetectorConfig,
    VcConfig,
    VocoderRunConfig,
)
from advgan.training.detector_task import DetectorTask
from advgan.training.vc_task import VcTask
from advgan.training.vocoder_task import VocoderTask
from speakerguard.training.loop import Loop, Task

Make = Callable[..., AttackerRunConfig]
TASKS: dict[str, tuple[type[AttackerRunConfig], type[Task]]] = {
    "vc": (VcConfig, VcTask),
    "vocoder": (VocoderRunConfig, VocoderTask),
    "convert": (AdversarialConfig, ConvertTask),
    "perturb": (AdversarialConfig, PerturbTask),
    "discriminator": (DetectorConfig, DetectorTask),
}
SMALL: dict[str, dict[str, Any]] = {
    "vc": {"model": {"width": 8, "blocks": 2}},
    "vocoder": {
        "model": {"width": 8, "hidden": 8, "blocks": 1},
        "adversarial": 0.1,
        "dnsmos_weight": 0,
        "discriminator": {"width": 2},
    },
    "convert": {
        "model": {"width": 8, "blocks": 2, "embedding": 192},
        "optimiser": "muon",
        "discriminator": {"width": 2},
        "iterations": 1,
    },
    "perturb": {
        "mode": "perturb",
        "perturber": {"width": 8, "blocks": 2, "embedding": 192},
        "discriminator": {"width": 2},
    },
    "discriminator": {"model": {"width": 2}, "copies": 1},
}


def make_corpus(speech: dict[str, list[Path]], root: Path) -> Path:
    """Real clips: ``train`` and ``dev`` folders, a list of pairs, and a cache."""
    names = sorted(speech)
    for name, files in speech.items():
        for index, file in enumerate(files):
            to = root / ("train" if index < 2 else "dev") / name / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    kept = {name: sorted((root / "dev" / name).iterdir()) for name in names}
    lines = [
        "\t".join(f"{p.parent.name}/{p.name}" for p in (kept[a][0], kept[b][0], kept[b][1]))
        for a, b in itertools.pairwise(names)
    ]
    (root / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return root


def config(corpus: Path, tiny_model: Path, kind: str, out: Path, **more: Any) -> AttackerRunConfig:
    """A small configuration of a kind."""
    content: dict[str, Any] = {
        "out": out,
        "data": {
            "train": corpus / "train",
            "dev": corpus / "dev",
            "dev_pairs": corpus / "pairs.tsv",
            "cache": corpus / "cache",
        },
        "steps": 2,
        "batch": 2,
        "frames": 64,
        "warmup": 0,
        "evaluate_every": 1,
        "dev_size": 2,
    }
    if kind in {"convert", "perturb"}:
        content["guard"] = str(tiny_model)
    return TASKS[kind][0].model_validate(content | SMALL[kind] | more)


def quiet(_: str) -> None:
    """A report that nobody reads."""


def run(kind: str, config: AttackerRunConfig, report: Callable[[str], None] = quiet) -> Loop:
    """Train to the end."""
    made = Loop(config, TASKS[kind][1](config, report), report)  # type: ignore[call-arg]
    made.run()
    return made
