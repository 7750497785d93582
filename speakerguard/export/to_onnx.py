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
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speakerguard import seal
from speakerguard.embedders.guard import ONNX_FORMAT, WHOLE
from speakerguard.embedders.runtimes import onnx_session, openvino_model
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export.to_tensorflow import Run
from speakerguard.files import refuse_folder
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import ONNX_FILE
from speakerguard.network.model import SpeakerEncoder
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.filterbank import (
    DEEP_SPEAKER_FLOOR,
    FFT,
    HOP,
    LEAST_DEVIATION,
    LOGMEL_FLOOR,
    PREEMPHASIS,
    WINDOW,
    dft_basis,
)

TOLERANCE = 1e-4  # largest difference of any value of an embedding from torch's
OPSET = 17
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
            _write_openvino(encoder, fingerprint, folder, part)
        else:
            from speakerguard.export import to_tensorflow as export_keras

            export_keras.write(encoder, to, part)
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
    from speakerguard.export import to_tensorflow as export_keras

    return export_keras.reader(to, path)


class Exportable(nn.Module):
    """The encoder with a front end whose every operation other runtimes have as well.

    The Fourier transform becomes a convolution with the windowed cosines and sines themselves.
    (B, samples) to (B, dimension), any number of samples from :attr:`min_samples`.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.config = encoder.config
        self.trunk, self.head = encoder.trunk, encoder.head
        basis = torch.from_numpy(dft_basis(encoder.front_end.window.numpy(), FFT))
        self.register_buffer("basis", basis[:, None])  # (2 * bins, 1, WINDOW)
        self.register_buffer("filters", encoder.front_end.filters)
        self.eval()

    @property
    def min_samples(self) -> int:
        """Shortest clip: what gives the first frame."""
        return WINDOW if self.config.front_end == "logmel" else WINDOW - HOP + 1

    def features(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, frames, bands), as the encoder's own front end."""
        rest = waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]
        emphasised = torch.cat([waveform[:, :1], rest], dim=1)
        if self.config.front_end == "deep-speaker":  # the last, partial frame counts
            emphasised = nn.functional.pad(emphasised, (0, HOP - 1))
        spectrum = nn.functional.conv1d(emphasised[:, None], self.basis, stride=HOP)
        bins = FFT // 2 + 1
        power = spectrum[:, :bins].square() + spectrum[:, bins:].square()
        energy = torch.matmul(self.filters, power).transpose(1, 2)
        if self.config.front_end == "logmel":
            bands = torch.log(energy + LOGMEL_FLOOR)
            return bands - bands.mean(dim=1, keepdim=True)
        energy = torch.clamp(energy / FFT, min=DEEP_SPEAKER_FLOOR)
        centred = energy - energy.mean(dim=2, keepdim=True)
        deviation = centred.square().mean(dim=2, keepdim=True).sqrt()
        return centred / torch.clamp(deviation, min=LEAST_DEVIATION)

    def forward(self, waveform: Tensor) -> Tensor:
        """L2-normalised embeddings (B, dimension)."""
        frames, _ = self.trunk(self.features(waveform))
        return nn.functional.normalize(self.head(frames), dim=1)


def write_onnx(
    encoder: SpeakerEncoder, fingerprint: str, path: Path, weights: Path, beside: bool
) -> None:
    """Write the encoder as ONNX, sealed; its metadata are for :mod:`speakerguard.embedders.guard`.

    Args:
        weights: its safetensors file. The weights are kept as they are stored there, half
            precision included, and cast when the model is loaded.
        beside: whether ``path`` lies beside ``weights`` and refers to them instead of holding
            them.

    Raises:
        UsageError: the package onnx is not installed.
    """
    onnx = _onnx()
    module = Exportable(encoder)
    with warnings.catch_warnings():
        # The exporter that traces is deprecated; the other one needs a further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.randn(1, SAMPLE_RATE),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # folds nothing: weights stay as stored
            input_names=["waveform"],
            output_names=["embedding"],
            dynamic_axes={"waveform": {0: "batch", 1: "samples"}, "embedding": {0: "batch"}},
        )
    made = onnx.load(str(path))
    _fold_norms(onnx, made.graph)
    _use_stored(onnx, made, weights, beside)
    about = {
        "format": ONNX_FORMAT,
        "fingerprint": fingerprint,
        "config": encoder.config.model_dump_json(),
        "dimension": str(encoder.config.dimension),
        "min_samples": str(module.min_samples),
        "sample_rate": str(SAMPLE_RATE),
        "layout": checkpoint.layout(weights) if beside else WHOLE,
    }
    onnx.helper.set_model_props(made, about)
    made.producer_name, made.producer_version = "speakerguard", ""
    onnx.save(made, str(path))
    seal.seal(path)


def _fold_norms(onnx: Any, graph: Any) -> None:
    """Make each normalisation behind a convolution a gain of its weights and a bias.

    The weights stay as they are: what loads the graph multiplies them by the gain. ONNX Runtime
    would fold the normalisations itself, but takes twice as long over it.
    """
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in values:  # equal tensors are kept once
            values[node.output[0]] = values[node.input[0]]
        conv = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or len(conv.input) > 2:
            nodes.append(node)
            continue
        gain, shift, mean, variance = (values[name] for name in node.input[1:])
        gain = gain / np.sqrt(variance + onnx.helper.get_node_attr_value(node, "epsilon"))
        weights = conv.input[1]
        wide = gain.reshape(-1, *[1] * (values[weights].ndim - 1))
        for name, value in (("gain", wide), ("bias", shift - mean * gain)):
            array = onnx.numpy_helper.from_array(value.astype(np.float32), f"{node.name}.{name}")
            graph.initializer.append(array)
        folded = f"{node.name}.folded"
        product = onnx.helper.make_node("Mul", [weights, f"{node.name}.gain"], [folded])
        nodes.insert(nodes.index(conv), product)
        conv.input[1], conv.output[0] = folded, node.output[0]
        conv.input.append(f"{node.name}.bias")
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def _use_stored(onnx: Any, model: Any, weights: Path, beside: bool) -> None:
    """Put each initialiser that the safetensors file holds back into the form it has there."""
    header, start = checkpoint.header(weights)
    stored, casts = [], []
    for tensor in model.graph.initializer:
        entry = header.get(tensor.name)
        if entry is None:  # of the front end
            stored.append(tensor)
            continue
        half = entry["dtype"] == "F16"
        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        name = f"{tensor.name}.half" if half else tensor.name
        kept = onnx.TensorProto(name=name, data_type=kind, dims=entry["shape"])
        begin, end = entry["data_offsets"]
        if beside:
            kept.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": weights.name, "offset": start + begin, "length": end - begin}
            for key, value in place.items():
                kept.external_data.add(key=key, value=str(value))
        else:
            with weights.open("rb") as file:
                file.seek(start + begin)
                kept.raw_data = file.read(end - begin)
        stored.append(kept)
        if half:
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=to))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend(nodes)


def _write_openvino(encoder: SpeakerEncoder, fingerprint: str, folder: Path, part: Path) -> None:
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"OpenVINO cannot be used here ({error}): pip install 'speakerguard[openvino]'."
        ) from None
    whole = part.with_suffix(".onnx")
    try:
        write_onnx(encoder, fingerprint, whole, folder / checkpoint.MODEL_FILE, beside=False)
        openvino.save_model(openvino.Core().read_model(whole), part, compress_to_fp16=False)
    finally:
        _remove(whole)


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


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            f"the package onnx cannot be used here ({error}): pip install 'speakerguard[export]'."
        ) from None
    return onnx


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
