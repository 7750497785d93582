"""A checkpoint for other programs: ONNX, OpenVINO, Keras, TensorFlow's SavedModel, LiteRT.

Every export takes waveforms, float32 (batch, samples) at 16 kHz in [-1, 1], of any length but one
length a batch (LiteRT: batches of one), and gives L2-normalised embeddings, float32 (batch,
dimension): the front end is inside. Each is written, loaded again, run on sounds of several
lengths and compared with torch before it takes its place; one that differs is no export but an
error.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speakerguard.embedders.runtimes import onnx_session, openvino_model
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export import to_tensorflow
from speakerguard.export.to_onnx import write_onnx
from speakerguard.export.to_openvino import write_openvino
from speakerguard.export.to_tensorflow import Run
from speakerguard.files import refuse_folder
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import ONNX_FILE
from speakerguard.network.model import SpeakerEncoder
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

TOLERANCE = 1e-4  # largest difference of any value of an embedding from torch's
LENGTHS = (8_000, 16_000, 16_001, 51_237)  # samples of the sounds compared; odd ones on purpose
FORMATS = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "keras": ".keras",
    "saved_model": "",
    "litert": ".tflite",
}


@dataclass(frozen=True)
class Exported:
    """An export that was compared: where it is, its size, and how far it is from torch."""

    path: Path
    bytes: int
    difference: float


def export(model: str | os.PathLike[str], to: str, out: Path | None = None) -> Exported:
    """Write a checkpoint in another format, and compare the two.

    Args:
        model: name or folder of a checkpoint.
        to: one of :data:`FORMATS`.
        out: the file or, for ``saved_model``, folder to write. Without it, ``model`` with the
            format's ending beside the weights. ``model.onnx`` beside the weights refers to them
            and holds none itself; anywhere else an ONNX file is whole.

    Raises:
        CheckpointError: there is no such checkpoint, or the export differs from it.
        UsageError: no such format, a wrong ending, a missing package, or a folder in the way; an
            empty one, or a former ``saved_model``, makes room for a ``saved_model``.
    """
    if to not in FORMATS:
        raise UsageError(f"no format {to!r}. Choose one of: {', '.join(FORMATS)}.")
    folder = checkpoint.resolve(model)
    out = out or folder / (f"model{FORMATS[to]}" if FORMATS[to] else "saved_model")
    if out.suffix != FORMATS[to] and FORMATS[to]:
        raise UsageError(f"{out}: the output of --to {to} must end in {FORMATS[to]}.")
    _require_room(out, to)
    encoder, fingerprint = checkpoint.load(folder / checkpoint.MODEL_FILE)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.stem}.{os.getpid()}.part{out.suffix}")
    try:
        if to == "onnx":
            weights = folder / checkpoint.MODEL_FILE
            beside = out.resolve() == (folder / ONNX_FILE).resolve()
            write_onnx(encoder, fingerprint, part, weights, beside)
        elif to == "openvino":
            write_openvino(encoder, fingerprint, folder, part)
        else:
            to_tensorflow.write(encoder, to, part)
        difference = _difference(encoder, reader(to, part))
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"the export to {to} differs from torch by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}; nothing was written. Please report it."
            )
        _replace(part, out)
        if to == "openvino":
            _replace(part.with_suffix(".bin"), out.with_suffix(".bin"))
    finally:
        _remove(part)
        _remove(part.with_suffix(".bin"))
    return Exported(out, _size(out), difference)


def reader(to: str, path: Path) -> Run:
    """Loads an export and gives what embeds with it: (1, samples) to (1, dimension)."""
    if to == "onnx":
        session = onnx_session(path)
        return lambda clip: session.run(None, {"waveform": clip})[0]
    if to == "openvino":
        compiled, _ = openvino_model(path)
        return lambda clip: compiled([clip])[0].copy()
    return to_tensorflow.reader(to, path)


def _difference(encoder: SpeakerEncoder, run: Run) -> float:
    """Largest difference of any value, over sounds of all :data:`LENGTHS`."""
    worst = 0.0
    for seed, length in enumerate(LENGTHS):
        sound = buzz(length, seed)
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(sound)).numpy()
        found = run(sound)
        if found.shape != expected.shape:
            raise CheckpointError(f"the export gives shape {found.shape}, not {expected.shape}.")
        worst = max(worst, float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()))
    return worst


def buzz(samples: int, seed: int) -> Waveform:
    """Something like a voice: harmonics of a gliding pitch in noise, float32 (1, samples)."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 1.3 * time)) / SAMPLE_RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 30)) * (0.6 + 0.4 * np.sin(19 * time))
    sound = 0.1 * voice + 0.01 * random.standard_normal(samples)
    return sound[None].astype(np.float32)


def _require_room(out: Path, to: str) -> None:
    """Refuse a place that holds anything but an older export of the same kind."""
    if out.name in ("", ".."):
        raise UsageError(f"{out}: names no file or folder to write. Add a name to it.")
    if to != "saved_model":
        for path in (out, out.with_suffix(".bin")) if to == "openvino" else (out,):
            refuse_folder(path)
    elif out.exists() and not (
        out.is_dir() and ((out / "saved_model.pb").is_file() or not any(out.iterdir()))
    ):
        raise UsageError(
            f"{out}: holds something else than a saved_model, which would be lost. Choose another "
            "name, or an empty folder."
        )


def _replace(part: Path, out: Path) -> None:
    """Put ``part`` in the place of ``out``; what was there goes when it stands."""
    if not out.is_dir():
        part.replace(out)
        return
    out = out.resolve()  # not a link to it
    old = out.with_name(f"{out.name}.{os.getpid()}.old")
    out.replace(old)
    try:
        part.replace(out)
    except OSError:
        old.replace(out)
        raise
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
