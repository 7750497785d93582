"""The embedder of a name: the guard's checkpoints, its peers, any ONNX model that a file describes.

Enrolment, verification and evaluation run alike on each; see
:class:`speakerguard.embedders.contract.Embedder`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from speakerguard.embedders.contract import Embedder
from speakerguard.embedders.fused import FusedEmbedder, is_fused
from speakerguard.embedders.guard import (
    OnnxEmbedder,
    OpenVinoEmbedder,
    OtherWeightsError,
    TorchEmbedder,
)
from speakerguard.errors import UsageError
from speakerguard.extras import named
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import MEMBERS_FILE, ONNX_FILE, PEER_NAMES

MOST_THREADS = 1_024  # that may be asked for
DESCRIPTIONS = (".yaml", ".yml")  # of files that describe other ONNX models
ENGINE_VARIABLE, THREADS_VARIABLE = "SPEAKERGUARD_ENGINE", "SPEAKERGUARD_THREADS"
_log = logging.getLogger(__name__)

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
        model: see above; or a ``.yaml`` file, of another ONNX model
            (:mod:`speakerguard.embedders.foreign`) or of several (:mod:`.fused`).
        engine: one of :data:`ENGINE_NAMES`; None takes ``SPEAKERGUARD_ENGINE``, else ``auto``:
            ONNX Runtime where the folder holds a ``model.onnx`` that fits, else torch. A network
            that is damaged is an error, one of other weights is not used.
        threads: for one clip, 1 to :data:`MOST_THREADS`; None takes ``SPEAKERGUARD_THREADS``, else
            as many as there are processors, at most
            :data:`~speakerguard.embedders.runtimes.MAX_THREADS` (for torch, its own default).

    Raises:
        CheckpointError: there is none, or it cannot be used.
        UsageError: no such engine or number of threads, or the engine is not installed.
    """
    engine, threads = settings(engine, threads)
    if model in PEER_NAMES:
        return _peer(str(model), engine, threads)
    if Path(model).suffix in DESCRIPTIONS:
        _onnx_alone(model, engine)
        if is_fused(Path(model)):
            return FusedEmbedder(Path(model), _member, threads)
        from speakerguard.embedders.foreign import ForeignEmbedder

        return ForeignEmbedder(Path(model), threads)
    folder = checkpoint.resolve(model, (checkpoint.MODEL_FILE, ONNX_FILE, MEMBERS_FILE))
    if (folder / MEMBERS_FILE).is_file():
        _onnx_alone(model, engine)
        return FusedEmbedder(folder / MEMBERS_FILE, _member, threads)
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


def _peer(name: str, engine: str, threads: int | None) -> Embedder:
    if engine == "torch":
        from speakerguard.embedders.peers_torch import TorchPeerEmbedder

        return TorchPeerEmbedder(name, threads)
    from speakerguard.embedders.peers import PEERS

    _onnx_alone(name, engine)
    return PEERS[name](threads)


def _member(model: str | Path, threads: int | None) -> Embedder:
    """A member of a fused model, which runs where that does."""
    return load(model, "auto", threads)


def _onnx_alone(model: object, engine: str) -> None:
    if engine not in ("auto", "onnxruntime"):
        raise UsageError(f"{model} runs on ONNX Runtime alone: leave out the engine {engine!r}.")


def _threads(asked: int | None) -> int | None:
    text = str(asked) if asked is not None else os.environ.get(THREADS_VARIABLE)
    if not text:
        return None
    if not (text.isdecimal() and len(text) < 5 and 1 <= int(text) <= MOST_THREADS):
        source = "the number of threads" if asked is not None else THREADS_VARIABLE
        raise UsageError(f"{source} is {text!r}; give a number from 1 to {MOST_THREADS}.")
    return int(text)
