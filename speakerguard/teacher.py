"""The teacher: what CAM++ hears, that a smaller guard learns to reproduce.

Of every segment it gives an embedding, and on request its last values before pooling, averaged
over :data:`FRAME` samples: as often as the guard's trunk gives a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor, nn

from speakerguard.audio import SAMPLE_RATE, Waveform
from speakerguard.data import SpeechSet
from speakerguard.files import whole_file
from speakerguard.peers import CamPlusPlus

FRAME = 2_560  # samples, 160 ms: 16 steps of the guard's front end, 8 of the teacher's frames
VALUES = 512  # in a frame of the teacher
_POOLED = 8
Progress = Callable[[int, int], None]
Halves = npt.NDArray[np.float16]


class Listener:
    """The teacher with its frames: waveforms (B, n) to embeddings (B, 192), frames (B, T, 512).

    Embeddings are L2-normalised, ``T`` is ceil(n / :data:`FRAME`) or one less; both float32, on
    the CPU, from a network in bfloat16, on a GPU where there is one.
    """

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = CamPlusPlus().to(self.device)
        self._heard: list[Tensor] = []
        last = self.network.network.xvector.out_nonlinear
        last.register_forward_hook(lambda _, __, frames: self._heard.append(frames))

    def __call__(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        self._heard.clear()
        with torch.inference_mode():
            features = self.network.features(waveforms.to(self.device))
            with torch.autocast(self.device.type, torch.bfloat16):
                embeddings = self.network.embed_features(features)
            fine = self._heard.pop().float()
            frames = nn.functional.avg_pool1d(fine, _POOLED, _POOLED, ceil_mode=True)
        return embeddings.cpu(), frames.transpose(1, 2).cpu()


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
        result[batch] = listener(waveforms)[0].numpy()
    _keep(path, result)
    return result


def teach_frames(
    speech: SpeechSet, progress: Progress | None = None, batch_seconds: float = 60.0
) -> tuple[Halves, npt.NDArray[np.int64]]:
    """The teacher's frames of all segments end to end, float16 (frames, 512), memory-mapped.

    And where those of each segment begin, int64 (segments + 1,). Both are kept beside the speech,
    embeddings at speed 1 too.
    """
    names = (f"frames-{FRAME}.npy", f"frames-{FRAME}-begin.npy", "campplus-1.npy")
    frames_file, begin_file, embeddings_file = (speech.folder / name for name in names)
    if not begin_file.exists():
        listener = Listener()
        found: dict[int, Halves] = {}
        embeddings = np.zeros((len(speech), listener.network.dimension), np.float16)
        for batch, waveforms in _batches(speech, 1.0, progress, batch_seconds):
            heard, frames = listener(waveforms)
            embeddings[batch] = heard.numpy()
            found |= zip(map(int, batch), frames.numpy().astype(np.float16), strict=True)
        ordered = [found[index] for index in range(len(speech))]
        if not embeddings_file.exists():
            _keep(embeddings_file, embeddings)
        _keep(frames_file, np.concatenate(ordered))
        _keep(begin_file, np.cumsum([0, *map(len, ordered)]))  # last: it says that all is there
    return np.load(frames_file, mmap_mode="r"), np.load(begin_file)


def at_speed(waveform: Waveform, speed: float) -> Waveform:
    """``waveform`` (n,) played ``speed`` times as fast: float32 (about n / speed,)."""
    if speed == 1:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, "HQ"), np.float32)


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


def _keep(path: Path, values: npt.NDArray[np.generic]) -> None:
    with whole_file(path) as part, part.open("wb") as out:
        np.save(out, values)
