"""The guard's own checkpoints, on any of three engines that give the same embeddings to 1e-4.

Only the torch engine imports torch. The others run ``model.onnx``, whose metadata say what it is:
see :func:`speakerguard.export.to_onnx.write_onnx`, which writes it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from speakerguard import seal
from speakerguard.embedders.contract import Embedding, long_enough
from speakerguard.embedders.runtimes import EXPORT_AGAIN, existing, onnx_session, openvino_model
from speakerguard.errors import CheckpointError
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import ONNX_FILE
from speakerguard.processes import PerProcess, Remade, torch_may_fork, torch_threads
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

BATCH_SECONDS = 60.0  # of padded speech embedded at once, by torch
ONNX_FORMAT = "speakerguard-onnx-1"
WHOLE = "whole"  # in place of a layout: the network holds its weights


class TorchEmbedder(Remade):
    """A checkpoint of the guard, run by torch; clips of like length share a batch.

    Where a process is forked after this was made, torch has one thread there.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        torch_may_fork()
        self.name, self.folder, self._threads = folder.name, folder, threads
        self.encoder, self.fingerprint = checkpoint.load(folder / checkpoint.MODEL_FILE)
        self.dimension = self.encoder.config.dimension
        self.min_samples = self.encoder.front_end.min_samples

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`~speakerguard.embedders.contract.Embedder.embed`."""
        import torch

        order = sorted(range(len(waveforms)), key=lambda i: -len(waveforms[i]))
        result: dict[int, Embedding] = {}
        while order:
            fitting = int(BATCH_SECONDS * SAMPLE_RATE / max(1, len(waveforms[order[0]])))
            batch = order[: max(1, min(16, fitting))]
            order = order[len(batch) :]
            clips = [torch.from_numpy(waveforms[i]) for i in batch]
            lengths = torch.tensor([len(clip) for clip in clips])
            padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
            with torch_threads(self._threads), torch.inference_mode():
                embeddings = self.encoder(padded, lengths).numpy()
            result |= dict(zip(batch, embeddings, strict=True))
        return [result[i] for i in range(len(waveforms))]


class OnnxEmbedder(Remade):
    """A checkpoint of the guard, run by ONNX Runtime, one clip at a time.

    ``model.onnx`` is the network, front end included; its weights are those in
    ``model.safetensors`` beside it, so it holds for no others. Where it stands alone, it must be
    whole, as exports to other places and quantised models are. Network and weights are compared
    with their digests before anything runs.

    Raises:
        CheckpointError: there is no ``model.onnx``, it was exported for other weights, or a file
            is damaged.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.name, self.folder = folder.name, folder
        self._session = PerProcess(folder / ONNX_FILE, partial(_onnx, folder, threads))
        self.fingerprint, self.dimension, self.min_samples = self._session.about

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`~speakerguard.embedders.contract.Embedder.embed`."""
        run = self._session().run
        return [
            run(None, {"waveform": long_enough(clip, self.min_samples)})[0][0] for clip in waveforms
        ]


class OpenVinoEmbedder(Remade):
    """A checkpoint of the guard, run by OpenVINO from the same ``model.onnx``, in float32.

    Raises:
        CheckpointError: as :class:`OnnxEmbedder`.
        UsageError: OpenVINO is not installed.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.name, self.folder = folder.name, folder
        self._model = PerProcess(folder / ONNX_FILE, partial(_openvino, folder, threads))
        self.fingerprint, self.dimension, self.min_samples = self._model.about

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`~speakerguard.embedders.contract.Embedder.embed`."""
        return [self._embed(long_enough(clip, self.min_samples)) for clip in waveforms]

    def _embed(self, batch: Waveform) -> Embedding:
        model, idle = self._model()
        try:  # pop and append are atomic, so two threads never hold the same request
            request = idle.pop()
        except IndexError:
            request = model.create_infer_request()
        embedding: Embedding = request.infer([batch])[0][0].copy()
        idle.append(request)
        return embedding


class OtherWeightsError(CheckpointError):
    """The network is whole, but not that of the weights beside it, as after a new training."""


def _onnx(folder: Path, threads: int | None) -> tuple[Any, tuple[str, int, int]]:
    """The network in a folder as a session, and what it is; see :func:`_about`."""
    path = folder / ONNX_FILE
    with ThreadPoolExecutor(1) as beside:  # while files are checked
        imported = beside.submit(importlib.import_module, "onnxruntime")
        seal.check(existing(path), EXPORT_AGAIN)
        imported.result()
        loading = beside.submit(onnx_session, path, threads)
        weights = _weights(folder)
        session = loading.result()
    return session, _about(folder, session.get_modelmeta().custom_metadata_map, weights)


def _openvino(
    folder: Path, threads: int | None
) -> tuple[tuple[Any, list[Any]], tuple[str, int, int]]:
    """The network in a folder with a list for its idle infer requests, and what it is."""
    seal.check(existing(folder / ONNX_FILE), EXPORT_AGAIN)
    weights = _weights(folder)
    model, stated = openvino_model(folder / ONNX_FILE, threads)
    return (model, []), _about(folder, stated, weights)


def _weights(folder: Path) -> str | None:
    """Fingerprint of the weights beside a network; None where it holds its own."""
    path = folder / checkpoint.MODEL_FILE
    return checkpoint.fingerprint(path) if path.exists() else None


def _about(folder: Path, stated: dict[str, str], weights: str | None) -> tuple[str, int, int]:
    """Fingerprint, dimension and shortest clip, if the network is that of these weights."""
    path = folder / ONNX_FILE
    if stated.get("format") != ONNX_FORMAT:
        raise CheckpointError(f"{path}: not an export of this program's. {EXPORT_AGAIN}")
    try:
        fingerprint = stated["fingerprint"]
        dimension, min_samples = int(stated["dimension"]), int(stated["min_samples"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: what it says of itself is damaged ({error}). {EXPORT_AGAIN}"
        ) from None
    if weights is None:
        return fingerprint, dimension, min_samples
    if fingerprint != weights:
        raise OtherWeightsError(
            f"{path} belongs to weights {fingerprint}, these are {weights}. {EXPORT_AGAIN}"
        )
    layout = stated.get("layout")
    if layout is None:
        raise OtherWeightsError(f"{path} was exported by an earlier version. {EXPORT_AGAIN}")
    if layout not in (WHOLE, checkpoint.layout(folder / checkpoint.MODEL_FILE)):
        raise OtherWeightsError(
            f"{path} expects the same weights elsewhere in {checkpoint.MODEL_FILE}, which was "
            f"written anew. {EXPORT_AGAIN}"
        )
    return fingerprint, dimension, min_samples
