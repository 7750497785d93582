"""Public Deep Speaker checkpoints to guards and back.

The public weights (philipperemy/deep-speaker, MIT licence) are Keras 2 files in the legacy HDF5
layout: attribute ``layer_names``, one group a layer whose attribute ``weight_names`` lists its
datasets, such as ``conv64-s/conv64-s/kernel:0``. A file of weights has them at the top, a file of
a whole model under ``model_weights``, beside the optimizer's state. Only h5py is needed.

On features whose frames are a multiple of 16, as the 160 the public weights were trained on, the
embedding equals the original's. On others the original pads odd sizes one frame further to the
front, where the guard keeps one alignment for every length
(:class:`speakerguard.network.model.Stage`).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export.keras_twin import encoder_of, named, weights_of
from speakerguard.files import whole_file
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder

SUFFIXES = (".h5", ".hdf5")
EMBEDDING = 512  # values in a Deep Speaker embedding
KERAS = "2.15.0"  # the Keras whose layout is written; readers take files without one for Keras 1


class Published(NamedTuple):
    """A public checkpoint, as Git LFS pointers (sifis-home/flask_speaker_verification) state it."""

    name: str
    size: int  # bytes
    sha256: str


PUBLISHED = (
    Published(
        "ResCNN_triplet_training_checkpoint_265.h5",
        97_054_080,
        "995f4f513e24e2d22bc7f178e70c33c8913b307b69b0c8619f9bc0055c1134c3",
    ),
    Published(
        "ResCNN_softmax_pre_training_checkpoint_102.h5",
        296_364_940,
        "ca023c9204b7f9d748956ba1c03e032f4c9d8f1e8dbcf44e78c10d16f71cc0c2",
    ),
)


def convert(source: Path, out: Path) -> str:
    """Convert ``source`` to ``out``; which way is told by the one that ends in ``.h5``.

    Args:
        source: a Deep Speaker checkpoint, or a guard's folder or name.
        out: the folder to write the guard to, or the file; must not hold one yet.

    Returns:
        What was read and written, for people.

    Raises:
        CheckpointError: the source is missing, damaged or foreign.
        UsageError: not exactly one of the two ends in ``.h5``, ``out`` is there already, or this
            guard cannot be written as a Deep Speaker checkpoint.
    """
    reading, writing = (path.suffix.lower() in SUFFIXES for path in (source, out))
    if reading == writing:
        raise UsageError(
            f"{source} to {out}: exactly one of them must be a Keras checkpoint, whose name ends "
            f"in {' or '.join(SUFFIXES)}; the other is a model's folder."
        )
    target = out if writing else out / checkpoint.MODEL_FILE
    if target.exists():
        raise UsageError(f"{target} is there already. Name another place, or remove it first.")
    if writing:
        encoder, fingerprint = checkpoint.load(checkpoint.resolve(source))
        to_deep_speaker(encoder, out)
        return f"{source}: model {fingerprint}\n{out}: written in Keras's legacy HDF5 layout"
    encoder = from_deep_speaker(source)
    known = provenance(source)
    fingerprint = checkpoint.save(encoder, target)
    return (
        f"{source} {known}\n"
        f"{target}: model {fingerprint}, width {encoder.config.width}, front end "
        f"{encoder.config.front_end}, embedding {encoder.config.dimension}\n"
        f"It has no thresholds yet: `speakerguard calibrate --model {out}` makes them."
    )


def from_deep_speaker(path: str | os.PathLike[str]) -> SpeakerEncoder:
    """Read a Deep Speaker checkpoint in Keras's legacy HDF5 layout.

    Optimizer state and one dense layer of training speakers (``dense``, ``dense_1``, ...) are
    left out; any other layer that the network does not have is an error.

    Returns:
        The encoder in evaluation mode: front end ``deep-speaker``, head ``mean``, embeddings of
        512 values, branches activated, as wide as the file's first convolution. Its waveforms are
        (batch, samples) at 16 kHz.

    Raises:
        CheckpointError: the file is missing, damaged, foreign or incomplete; the message says
            which layer and shape were expected.
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file.")
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a whole HDF5 file ({error}). Copy or download it again."
        ) from None


def to_deep_speaker(encoder: SpeakerEncoder, path: str | os.PathLike[str]) -> None:
    """Write ``encoder`` as a Deep Speaker checkpoint, at once or not at all.

    The layout is Keras's legacy HDF5 one with weights only; its convolutions' biases are 0. Keras
    2 and 3 load it into the original network, by order or by name.

    Raises:
        UsageError: the encoder is not of Deep Speaker's kind, or h5py is not installed.
    """
    h5py = _h5py()
    path, config = Path(path), encoder.config
    strange = [
        f"{field} {getattr(config, field)!r} instead of {value!r}"
        for field, value in _config(config.width)
        if field != "tdnn_channels" and getattr(config, field) != value
    ]
    if strange:
        raise UsageError(
            "this model is not Deep Speaker's network and cannot be written as one: it has "
            f"{', '.join(strange)}."
        )
    weights = weights_of(encoder)
    with whole_file(path) as part, h5py.File(part, "w", locking=False) as file:
        file.attrs["layer_names"] = [name.encode() for name in weights]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = KERAS.encode()
        for name, arrays in weights.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
            for key, array in arrays.items():
                group[f"{name}/{key}:0"] = array


def provenance(path: Path) -> str:
    """Whether the file is one of the two public checkpoints, in a sentence.

    What is known of those are their sizes and SHA-256, from published Git LFS pointers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    own, basis = f"{size} bytes, SHA-256 {digest}", "published Git LFS pointers"
    for known in PUBLISHED:
        if (size, digest) == (known.size, known.sha256):
            return f"is the public {known.name}, by the size and SHA-256 in {basis} ({own})."
    for known in PUBLISHED:
        if size == known.size or path.name == known.name:
            return (
                f"is NOT the public {known.name}, though it looks like it: {own}; expected "
                f"{known.size} bytes, SHA-256 {known.sha256}, as in {basis}."
            )
    return f"is neither of the public checkpoints, by the sizes and SHA-256 in {basis} ({own})."


def _read(path: Path, file: Any) -> SpeakerEncoder:
    layers = _layers(path, file)
    width = _width(path, layers)
    try:
        config = _config(width)
    except ValidationError:
        raise CheckpointError(
            f"{path}: the first convolution has {width} channels; expected 4 to 128, and 64 in "
            "the public checkpoints."
        ) from None
    encoder = encoder_of(config, layers, str(path))
    foreign = layers.keys() - named(encoder).keys()
    if len(foreign) > 1 or not all(_tells_speakers(name, layers[name]) for name in foreign):
        raise CheckpointError(
            f"{path}: not Deep Speaker's network alone: it has the layers "
            f"{', '.join(sorted(foreign))} as well; expected at most one more, `dense`, which "
            "tells the training speakers apart."
        )
    return encoder


def _tells_speakers(name: str, weights: dict[str, Any]) -> bool:
    """Whether a layer is the softmax layer of pre-training."""
    named_so = re.fullmatch(r"dense(_\d+)?", name) is not None
    return named_so and "kernel" in weights and weights["kernel"].shape[:1] == (EMBEDDING,)


def _layers(path: Path, file: Any) -> dict[str, dict[str, Any]]:
    """The datasets of every layer that has weights, by the last part of their names."""
    top = file.get("model_weights", file)
    if "layer_names" not in top.attrs:
        raise CheckpointError(
            f"{path}: an HDF5 file, but not in the legacy layout of Keras 2; expected the "
            "attribute 'layer_names' at its top or in 'model_weights'. The `.weights.h5` files of "
            "Keras 3 have another layout: load them there and save the whole model as `.h5`."
        )
    layers: dict[str, dict[str, Any]] = {}
    for name in _texts(top.attrs["layer_names"]):
        group = top[name]
        weights = {key: group[key] for key in _texts(group.attrs["weight_names"])}
        if not all(hasattr(dataset, "shape") for dataset in weights.values()):
            raise CheckpointError(f"{path}: layer {name} has a weight that is no dataset.")
        if weights:
            layers[name] = {
                key.split("/")[-1].removesuffix(":0"): dataset for key, dataset in weights.items()
            }
    return layers


def _width(path: Path, layers: dict[str, dict[str, Any]]) -> int:
    """Channels of the first convolution: the one with a single input channel."""
    for name, weights in layers.items():
        shape: tuple[int, ...] = weights["kernel"].shape if "kernel" in weights else ()
        if re.fullmatch(r"conv\d+-s", name) and len(shape) == 4 and shape[2] == 1:
            return int(shape[3])
    raise CheckpointError(
        f"{path}: no first convolution; expected a layer such as conv64-s with a kernel of shape "
        f"(5, 5, 1, 64). Layers found: {', '.join(list(layers)[:5]) or 'none with weights'}."
    )


def _config(width: int) -> ModelConfig:
    return ModelConfig(
        front_end="deep-speaker",
        width=width,
        head="mean",
        embedding=EMBEDDING,
        activate_branch=True,
    )


def _texts(attribute: Any) -> list[str]:
    """The texts of an HDF5 attribute, which may be bytes."""
    return [
        text.decode() if isinstance(text, bytes) else str(text)
        for text in np.asarray(attribute).ravel()
    ]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"h5py cannot be used here ({error}): pip install 'speakerguard[tensorflow]'."
        ) from None
    return h5py
