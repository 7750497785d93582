"""A checkpoint as ONNX: the encoder with a front end that every runtime can compute."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from speakerguard import seal
from speakerguard.embedders.guard import ONNX_FORMAT, WHOLE
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder
from speakerguard.sound.audio import SAMPLE_RATE
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

OPSET = 17


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
    """
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
    _fold_norms(made.graph)
    _use_stored(made, weights, beside)
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


def _fold_norms(graph: Any) -> None:
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


def _use_stored(model: Any, weights: Path, beside: bool) -> None:
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
