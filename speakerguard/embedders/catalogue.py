"""What can be given as ``--model``: whether it is here, what it costs, whose weights it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from speakerguard.embedders.fused import weights_of
from speakerguard.embedders.wheels import WHEELS, Wheel
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import MEMBERS_FILE

FIGURES_FILE = "figures.json"  # of all models, below checkpoints/; tools/summary.py writes it
OWN = "in this package, Apache-2.0"


@dataclass(frozen=True)
class Listed:
    """A model by name.

    Attributes:
        ready: whether it runs without a network.
        megabytes: of its weights, as they lie on the disk; None where they are not there.
        weights: where they come from, and under which licence.
        figures: equal error rates in [0, 1] (``eer``, ``eer_2s``), seconds of one cold claim
            (``cold``), seconds of speech a second on one thread (``speed``): those measured.
    """

    name: str
    default: bool
    ready: bool
    megabytes: float | None
    weights: str
    figures: dict[str, float]


def catalogue() -> list[Listed]:
    """All models, the one that decides unasked first."""
    path = checkpoint.folder() / FIGURES_FILE
    measured = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = [_listed(name, measured.get(name, {})) for name in checkpoint.available()]
    return sorted(found, key=lambda one: (not one.default, one.name))


def wheels_of(name: str) -> list[Wheel]:
    """The wheels that a model's weights come in, those of its members included."""
    if name in WHEELS:
        return [WHEELS[name]]
    return [wheel for member in _members(name) for wheel in wheels_of(member)]


def _members(name: str) -> list[str]:
    """Names of a fused model's members; of another model none."""
    path = checkpoint.folder() / name / MEMBERS_FILE
    return list(weights_of(path)) if path.is_file() else []


def _listed(name: str, figures: dict[str, float]) -> Listed:
    wheels = wheels_of(name)
    sources = [f"{wheel.requirement}, {wheel.licence}" for wheel in wheels]
    if name not in WHEELS:
        sources.insert(0, OWN)
    ready = all(wheel.present() for wheel in wheels)
    bytes_ = sum(path.stat().st_size for path in _files(name)) if ready else None
    return Listed(
        name=name,
        default=name == checkpoint.default(),
        ready=ready,
        megabytes=None if bytes_ is None else round(bytes_ / 1e6, 1),
        weights="; ".join(sources),
        figures=figures,
    )


def _files(name: str) -> Iterable[Path]:
    """Files that hold its weights."""
    if name in WHEELS:
        yield WHEELS[name].folder / WHEELS[name].weights
        return
    if members := _members(name):
        for member in members:
            yield from _files(member)
        return
    folder = checkpoint.folder() / name
    model = folder / checkpoint.MODEL_FILE
    yield model if model.is_file() else folder / checkpoint.ONNX_FILE
