"""The teacher: what CAM++ hears, that a smaller guard learns to reproduce.

It gives embeddings, and what its layers hold before that, averaged over :data:`FRAME` samples: as
often as the guard's trunk gives a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from speakerguard.embedders.peers_torch import CamPlusPlus
from speakerguard.files import whole_file
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.sound.filterbank import HOP
from speakerguard.sound.voice import at_speed
from speakerguard.training.data import SpeechSet

FRAME = 16 * HOP  # samples, 160 ms: 16 steps of the guard's front end, 8 of the teacher's frames
VALUES = 512  # in a frame of the teacher's last layer
HINTS = 768  # in a frame of its first two blocks: 256 and 512
_POOLED = 8
_LAYERS = ("transit1", "transit2", "out_nonlinear")
Progress = Callable[[int, int], None]
Halves = npt.NDArray[np.float16]


class TeacherOutput(NamedTuple):
    """What the teacher makes of waveforms (B, n), float32, on the CPU.

    Attributes:
        embeddings: (B, 192), L2-normalised.
        frames: (B, T, :data:`VALUES`), its last values before pooling; ``T`` is
            ceil(n / :data:`FRAME`) or one less.
        hints: (B, T, :data:`HINTS`), what its first two blocks of layers give.
    """

    embeddings: Tensor
    frames: Tensor
    hints: Tensor


class Listener:
    """The teacher with its layers, in bfloat16, on a GPU where there is one."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = CamPlusPlus().to(self.device)
        self._layers: dict[str, Tensor] = {}
        for name in _LAYERS:
            layer = getattr(self.network.network.xvector, name)
            layer.register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, _layer: object, _inputs: object, output: Tensor) -> None:
        self._layers[name] = output

    def __call__(self, waveforms: Tensor) -> TeacherOutput:
        with torch.inference_mode():
            features = self.network.features(waveforms.to(self.device))
            with torch.autocast(self.device.type, torch.bfloat16):
                embeddings = self.network.embed_features(features)
            early, middle, last = (self._pooled(self._layers[name]) for name in _LAYERS)
        self._layers.clear()
        return TeacherOutput(embeddings.cpu(), last, torch.cat([early, middle], dim=2))

    @staticmethod
    def _pooled(values: Tensor) -> Tensor:
        """(B, C, frames of 20 ms) to (B, T, C)."""
        pooled = nn.functional.avg_pool1d(values.float(), _POOLED, _POOLED, ceil_mode=True)
        return pooled.transpose(1, 2).cpu()


def teach(
    speech: SpeechSet,
    speed: float = 1.0,
    progress: Progress | None = None,
    batch_seconds: float = 60.0,
) -> Halves:
    """The teacher's embedding of every segment, played at ``speed``: float16 (segments, 192).

    Speed changes pitch and formants together, so each speed makes another voice of a speaker.
    The result is kept beside the speech; an interrupted run starts again.
    """
    path = speech.folder / f"campplus-{speed:g}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    listener = Listener()
    result = np.zeros((len(speech), listener.network.dimension), np.float16)
    for batch, waveforms in _batches(speech, speed, progress, batch_seconds):
        result[batch] = listener(waveforms).embeddings.numpy()
    with whole_file(path) as part, part.open("wb") as out:
        np.save(out, result)
    return result


def _batches(
    speech: SpeechSet, speed: float, progress: Progress | None, batch_seconds: float
) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
    """Segments of about one length, cut to the shortest of them: indices (B,), waveforms (B, n)."""
    order = np.argsort(speech.lengths, kind="stable")  # neighbours differ little in length
    done = 0
    while done < len(order):
        longest = speech.lengths[order[min(done + 15, len(order) - 1)]] / SAMPLE_RATE
        batch = order[done : done + max(1, int(batch_seconds / longest))]
        waveforms = [at_speed(speech.segment(i), speed) for i in batch]
        shortest = min(map(len, waveforms))
        yield batch, torch.from_numpy(np.stack([w[:shortest] for w in waveforms]))
        done += len(batch)
        if progress:
            progress(done, len(order))
