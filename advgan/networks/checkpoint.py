"""Model files of the attacker: safetensors with their kind, shape and mel convention inside.

A checkpoint is a folder with ``model.safetensors`` and a model card, as the guard's is. A file
that is missing, damaged, of another kind or not fitting is an error, never random weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from advgan.networks.discriminator import Discriminator, DiscriminatorConfig
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.mel import STANDARD, MelConvention
from advgan.networks.perturber import Perturber, PerturberConfig
from advgan.networks.vocoder import GRIFFIN_LIM, GriffinLim, NeuralVocoder, Vocoder, VocoderConfig
from speakerguard.errors import CheckpointError
from speakerguard.network.checkpoint import (
    MODEL_FILE,
    folder,
    header,
    is_name,
    read_tensors,
    write_tensors,
)
from speakerguard.sound.audio import printable

FORMAT = "advgan-1"
VOCODER = "vocoder"  # name of the shipped one


@dataclass(frozen=True)
class Kind:
    """A kind of network: how its shape is written down, and how it is built from that."""

    config: type[BaseModel]
    build: Callable[[Any], nn.Module]
    train: str


KINDS: dict[str, Kind] = {
    "generator": Kind(GeneratorConfig, Generator, "advgan-train vc"),
    "perturber": Kind(PerturberConfig, Perturber, "advgan-train adversarial"),
    "discriminator": Kind(DiscriminatorConfig, Discriminator, "advgan-train discriminator"),
    "vocoder": Kind(VocoderConfig, NeuralVocoder, "advgan-train vocoder"),
}


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, and what its file says of it.

    Attributes:
        network: one of :data:`KINDS`.
        convention: of its mels.
        fingerprint: of shape and weights, 16 hex digits.
        about: how it was trained, as its training wrote it.
    """

    network: nn.Module
    convention: MelConvention
    fingerprint: str
    about: dict[str, Any] = field(default_factory=dict)


def save(
    kind: str,
    network: nn.Module,
    path: Path,
    convention: MelConvention = STANDARD,
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write a network to ``path`` at once or not at all; returns its fingerprint.

    Matrices are stored as float16, vectors and normalisation as float32.

    Raises:
        UsageError: it cannot be written.
    """
    state = {n: t.detach().cpu().contiguous() for n, t in _state(network).items()}
    state = {n: t.half() if t.ndim > 1 else t for n, t in state.items()}
    config = network.config.model_dump_json()  # type: ignore[operator, union-attr]
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": config,
        "mel": convention.model_dump_json(),
        "about": json.dumps(dict(about or {})),
        "fingerprint": _fingerprint(config, state),
    }
    metadata["digest"] = _digest(metadata)
    write_tensors(path, state, metadata)
    return metadata["fingerprint"]


def load(kind: str, model: str | os.PathLike[str]) -> Loaded:
    """Read a network of a :data:`KINDS` kind, given a shipped name, its folder or its file.

    Raises:
        CheckpointError: missing, damaged, of another kind or program, or not fitting.
    """
    path = resolve(kind, model)
    metadata, _ = read_tensors(path, "pt", names=())
    if metadata.get("format") != FORMAT or metadata.get("kind") != kind:
        found = f"{metadata.get('format', 'not stated')!r} {metadata.get('kind', '')}".strip()
        raise CheckpointError(f"{path}: format is {found}, expected {FORMAT!r} {kind}.")
    try:
        config = KINDS[kind].config.model_validate_json(metadata["config"])
        convention = MelConvention.model_validate_json(metadata["mel"])
        about = json.loads(metadata["about"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description cannot be used: {error}.") from None
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: its description cannot be used: about is no object.")
    _require_fit(path, kind, config)
    state = read_tensors(path, "pt")[1]
    found = _fingerprint(metadata["config"], state)
    _require_digest(path, metadata)
    if found != metadata.get("fingerprint"):
        raise CheckpointError(
            f"{path}: its fingerprint is {found}, expected {metadata.get('fingerprint')}; the "
            "file was changed or damaged. Copy or download it again."
        )
    network = KINDS[kind].build(config)
    network.load_state_dict(state, strict=False)
    return Loaded(network.eval(), convention, found, about)


def resolve(kind: str, model: str | os.PathLike[str]) -> Path:
    """The model file of a checkpoint, given a shipped name, its folder or the file itself.

    What is a name, :func:`speakerguard.network.checkpoint.is_name` says; a path is no name.

    Raises:
        CheckpointError: there is none.
    """
    path, named = Path(model), folder() / model / MODEL_FILE
    given = (path, path / MODEL_FILE)
    for candidate in (named, *given) if is_name(model) else given:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"no {kind} {os.fspath(model)!r}: neither a model file, nor a folder with {MODEL_FILE}, "
        f"nor a name in {folder()}. Train one with `{KINDS[kind].train} --config …`."
    )


def shipped(name: str) -> bool:
    """Whether a checkpoint of this name lies beside the package."""
    return (folder() / name / MODEL_FILE).is_file()


def load_vocoder(name: str | os.PathLike[str] | None = None) -> Vocoder:
    """``griffin-lim``, or a trained vocoder; None takes the shipped one, else Griffin-Lim.

    Raises:
        CheckpointError: no such vocoder, or it was made for another mel convention.
    """
    if name is None:
        name = VOCODER if shipped(VOCODER) else GRIFFIN_LIM
    if name == GRIFFIN_LIM:
        return GriffinLim()
    loaded = load("vocoder", name)
    STANDARD.require(loaded.convention, f"the vocoder {printable(os.fspath(name))}")
    assert isinstance(loaded.network, NeuralVocoder)
    loaded.network.name += f" {loaded.fingerprint}"  # reports say which
    return loaded.network


def _state(network: nn.Module) -> Mapping[str, Tensor]:
    return {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}


def _require_fit(path: Path, kind: str, config: BaseModel) -> None:
    """Refuse tensors that are not the network's, before either takes any memory."""
    with torch.device("meta"):
        network = KINDS[kind].build(config)
    expected = {name: list(tensor.shape) for name, tensor in _state(network).items()}
    entries, _ = header(path)
    if foreign := sorted({entry["dtype"] for entry in entries.values()} - {"F16", "F32"}):
        raise CheckpointError(f"{path}: holds {', '.join(foreign)}; weights are F16 or F32.")
    found = {name: entry["shape"] for name, entry in entries.items()}
    if expected != found:
        names = {n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)}
        raise CheckpointError(f"{path}: tensors do not fit its shape: {sorted(names)[:3]}.")


def _digest(metadata: Mapping[str, str]) -> str:
    """SHA-256, in hex, of all that a file says of itself, mels and calibration with it."""
    told = {name: value for name, value in metadata.items() if name != "digest"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _require_digest(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("digest") not in (None, _digest(metadata)):  # earlier versions stated none
        raise CheckpointError(
            f"{path}: its description is not what its digest says; the file was changed or "
            "damaged. Copy or download it again."
        )


def _fingerprint(config: str, state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(json.loads(config), sort_keys=True).encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
