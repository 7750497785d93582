"""Whatever turns speech into an embedding, behind one small contract.

The guard's own checkpoints and its peers (CAM++, Resemblyzer, any ONNX model that a short file
describes) meet here, so that enrolment, verification and evaluation run alike on each. A
checkpoint runs on one of several engines, which give the same embeddings to 1e-4; only the torch
engine imports torch.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from speakerguard import seal
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.extras import named
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import ONNX_FILE as ONNX_FILE
from speakerguard.network.checkpoint import PEER_NAMES as PEER_NAMES
from speakerguard.processes import PerProcess, Remade, torch_may_fork
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

Embedding = npt.NDArray[np.float32]

BATCH_SECONDS = 60.0  # of padded speech embedded at once, by torch
MAX_THREADS = 4  # that an engine takes unasked; one clip gives no work to more
MOST_THREADS = 1_024  # that may be asked for
DESCRIPTIONS = (".yaml", ".yml")  # of files that describe other ONNX models
ENGINE_VARIABLE, THREADS_VARIABLE = "SPEAKERGUARD_ENGINE", "SPEAKERGUARD_THREADS"
ONNX_FORMAT = "speakerguard-onnx-1"
WHOLE = "whole"  # in place of a layout: the network holds its weights

_log = logging.getLogger(__name__)


class Embedder(Protocol):
    """What a verifier needs to know of a model.

    Attributes:
        name: as given to ``--model``.
        folder: where its thresholds lie.
        fingerprint: differs wherever embeddings could differ by more than rounding. A file that
            is not what it was written as, and so might give others under it, is never run.
        sample_rate: Hz, of the waveforms it takes.
        dimension: values in an embedding.
        min_samples: shortest waveform it can embed.
    """

    name: str
    folder: Path
    fingerprint: str
    sample_rate: int
    dimension: int
    min_samples: int

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """L2-normalised embedding, float32 (dimension,), of each waveform, float32 (n,).

        A waveform's embedding does not depend on what it is embedded together with, nor on what
        other threads embed meanwhile.
        """


class TorchEmbedder(Remade):
    """A checkpoint of the guard, run by torch; clips of like length share a batch.

    Where a process is forked after this was made, torch has one thread there.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        torch_may_fork()
        self.name, self.folder = folder.name, folder
        self.encoder, self.fingerprint = checkpoint.load(folder / checkpoint.MODEL_FILE)
        self.dimension = self.encoder.config.dimension
        self.min_samples = self.encoder.front_end.min_samples

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`Embedder.embed`."""
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
            with torch.inference_mode():
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
        """See :meth:`Embedder.embed`."""
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
        """See :meth:`Embedder.embed`."""
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


ENGINES: dict[str, Callable[[Path, int | None], Embedder]] = {
    "onnxruntime": OnnxEmbedder,
    "openvino": OpenVinoEmbedder,
    "torch": TorchEmbedder,
}
ENGINE_NAMES = ("auto", *ENGINES)


def settings(engine: str | None = None, threads: int | None = None) -> tuple[str, int | None]:
    """Engine and threads as asked for, else as the environment says; see :func:`load`.

    Raises:
        UsageError: no such engine, or no such number of threads.
    """
    engine = engine or os.environ.get(ENGINE_VARIABLE) or "auto"
    if engine not in ENGINE_NAMES:
        raise UsageError(f"no engine {engine!r}. Choose one of: {', '.join(ENGINE_NAMES)}.")
    return engine, _threads(threads)


@named()
def load(
    model: str | os.PathLike[str], engine: str | None = None, threads: int | None = None
) -> Embedder:
    """The model of this name: a shipped checkpoint, the folder of one, or a peer.

    Args:
        model: see above; or a ``.yaml`` file, see :mod:`speakerguard.embedders.foreign`.
        engine: one of :data:`ENGINE_NAMES`; None takes ``SPEAKERGUARD_ENGINE``, else ``auto``:
            ONNX Runtime where the folder holds a ``model.onnx`` that fits, else torch. A network
            that is damaged is an error, one of other weights is not used.
        threads: for one clip, 1 to :data:`MOST_THREADS`; None takes ``SPEAKERGUARD_THREADS``, else
            as many as there are processors, at most :data:`MAX_THREADS` (for torch, its own
            default).

    Raises:
        CheckpointError: there is none, or it cannot be used.
        UsageError: no such engine or number of threads, or the engine is not installed.
    """
    engine, threads = settings(engine, threads)
    if model in PEER_NAMES:
        from speakerguard.embedders.peers import PeerEmbedder

        if engine not in ("auto", "torch"):
            raise UsageError(f"{model} runs on torch alone: leave out the engine {engine!r}.")
        return PeerEmbedder(str(model))
    if Path(model).suffix in DESCRIPTIONS:
        from speakerguard.embedders.foreign import ForeignEmbedder

        if engine not in ("auto", "onnxruntime"):
            raise UsageError(f"{model} runs on ONNX Runtime alone: leave out {engine!r}.")
        return ForeignEmbedder(Path(model), threads)
    folder = checkpoint.resolve(model, (checkpoint.MODEL_FILE, ONNX_FILE))
    if engine != "auto":
        return ENGINES[engine](folder, threads)
    if (folder / ONNX_FILE).exists():
        try:
            return OnnxEmbedder(folder, threads)
        except OtherWeightsError as error:
            try:
                embedder = TorchEmbedder(folder, threads)  # or the error that is to be shown
            except ModuleNotFoundError:  # without torch, the network is what is to be mended
                raise error from None
            _log.warning("%s Until then torch is used, which is slower to start.", error)
            return embedder
    return TorchEmbedder(folder, threads)


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        CheckpointError: the file is missing, or cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _default_threads()
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # no slower here; loads faster and gives memory back
    # Waiting threads sleep: spinning, they take as much processor time as those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        return onnxruntime.InferenceSession(
            str(_existing(path)), options, providers=["CPUExecutionProvider"]
        )
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime's own errors have no other base
        raise CheckpointError(f"{path}: ONNX Runtime cannot run it ({error}). {_AGAIN}") from None


def openvino_model(path: Path, threads: int | None = None) -> tuple[Any, dict[str, str]]:
    """A compiled OpenVINO model on the CPU, in float32, and the metadata of its file.

    Raises:
        CheckpointError: the file cannot be run.
        UsageError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"OpenVINO cannot be used here ({error}): pip install 'speakerguard[openvino]'."
        ) from None
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or _default_threads(),
    }
    try:
        core = openvino.Core()
        model = core.read_model(path)
        stated = model.get_rt_info()["framework"] if model.has_rt_info("framework") else {}
        info = {name: str(model.get_rt_info(["framework", name]).value) for name in stated}
        return core.compile_model(model, "CPU", settings), info
    except RuntimeError as error:
        raise CheckpointError(f"{path}: OpenVINO cannot run it ({error}). {_AGAIN}") from None


_AGAIN = "Export it again: `speakerguard export --to onnx --model` with the model's name."


class OtherWeightsError(CheckpointError):
    """The network is whole, but not that of the weights beside it, as after a new training."""


def _onnx(folder: Path, threads: int | None) -> tuple[Any, tuple[str, int, int]]:
    """The network in a folder as a session, and what it is; see :func:`_about`."""
    path = folder / ONNX_FILE
    with ThreadPoolExecutor(1) as beside:  # while files are checked
        imported = beside.submit(importlib.import_module, "onnxruntime")
        seal.check(_existing(path), _AGAIN)
        imported.result()
        loading = beside.submit(onnx_session, path, threads)
        weights = _weights(folder)
        session = loading.result()
    return session, _about(folder, session.get_modelmeta().custom_metadata_map, weights)


def _openvino(
    folder: Path, threads: int | None
) -> tuple[tuple[Any, list[Any]], tuple[str, int, int]]:
    """The network in a folder with a list for its idle infer requests, and what it is."""
    seal.check(_existing(folder / ONNX_FILE), _AGAIN)
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
        raise CheckpointError(f"{path}: not an export of this program's. {_AGAIN}")
    try:
        fingerprint = stated["fingerprint"]
        dimension, min_samples = int(stated["dimension"]), int(stated["min_samples"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: what it says of itself is damaged ({error}). {_AGAIN}"
        ) from None
    if weights is None:
        return fingerprint, dimension, min_samples
    if fingerprint != weights:
        raise OtherWeightsError(
            f"{path} belongs to weights {fingerprint}, these are {weights}. {_AGAIN}"
        )
    layout = stated.get("layout")
    if layout is None:
        raise OtherWeightsError(f"{path} was exported by an earlier version. {_AGAIN}")
    if layout not in (WHOLE, checkpoint.layout(folder / checkpoint.MODEL_FILE)):
        raise OtherWeightsError(
            f"{path} expects the same weights elsewhere in {checkpoint.MODEL_FILE}, which was "
            f"written anew. {_AGAIN}"
        )
    return fingerprint, dimension, min_samples


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. {_AGAIN}")
    return path


def long_enough(clip: Waveform, least: int) -> Waveform:
    """A batch of one, float32 (1, n). Raises UsageError under ``least`` samples."""
    if len(clip) < least:
        raise UsageError(f"a clip of {len(clip)} samples is too short; {least} are the least.")
    return np.ascontiguousarray(clip[None], dtype=np.float32)


def _default_threads() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)


def _threads(asked: int | None) -> int | None:
    text = str(asked) if asked is not None else os.environ.get(THREADS_VARIABLE)
    if not text:
        return None
    if not (text.isdecimal() and len(text) < 5 and 1 <= int(text) <= MOST_THREADS):
        source = "the number of threads" if asked is not None else THREADS_VARIABLE
        raise UsageError(f"{source} is {text!r}; give a number from 1 to {MOST_THREADS}.")
    return int(text)
