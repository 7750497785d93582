"""Whatever turns speech into an embedding, behind one small contract.

The guard's own checkpoints and its peers (CAM++, Resemblyzer) meet here, so that enrolment,
verification and evaluation run alike on each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speakerguard import checkpoint
from speakerguard.audio import SAMPLE_RATE, Waveform

Embedding = npt.NDArray[np.float32]

BATCH_SECONDS = 60.0  # of padded speech embedded at once
PEER_NAMES = ("campplus", "resemblyzer")


class Embedder(Protocol):
    """What a verifier needs to know of a model.

    Attributes:
        name: as given to ``--model``.
        folder: where its thresholds lie.
        fingerprint: differs wherever embeddings could differ.
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

        A waveform's embedding does not depend on what it is embedded together with.
        """


class TorchEmbedder:
    """A checkpoint of the guard, run by torch; clips of like length share a batch."""

    sample_rate = SAMPLE_RATE

    def __init__(self, folder: Path) -> None:
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


def load(model: str | os.PathLike[str]) -> Embedder:
    """The model of this name: a shipped checkpoint, the folder of one, or a peer.

    Raises:
        CheckpointError: there is none, or it cannot be used.
    """
    if model in PEER_NAMES:
        from speakerguard.peers import PeerEmbedder

        return PeerEmbedder(str(model))
    return TorchEmbedder(checkpoint.resolve(model))
