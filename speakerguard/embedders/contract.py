"""What every embedder promises, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.sound.audio import Waveform

Embedding = npt.NDArray[np.float32]


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


def long_enough(clip: Waveform, least: int) -> Waveform:
    """A batch of one, float32 (1, n). Raises UsageError under ``least`` samples."""
    if len(clip) < least:
        raise UsageError(f"a clip of {len(clip)} samples is too short; {least} are the least.")
    return np.ascontiguousarray(clip[None], dtype=np.float32)
