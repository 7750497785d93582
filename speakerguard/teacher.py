"""The teacher: CAM++ embeddings that a smaller guard learns to reproduce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import soxr
import torch

from speakerguard.audio import SAMPLE_RATE
from speakerguard.data import SpeechSet
from speakerguard.files import whole_file
from speakerguard.peers import CamPlusPlus


def teach(
    speech: SpeechSet,
    speed: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    batch_seconds: float = 60.0,
) -> npt.NDArray[np.float16]:
    """The teacher's embedding of every segment, played at ``speed``: float16 (segments, 192).

    Speed changes pitch and formants together, so each speed makes another voice of a speaker.
    The result is kept beside the speech; an interrupted run starts again.
    """
    path = speech.folder / f"campplus-{speed:g}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    teacher = CamPlusPlus()
    order = np.argsort(speech.lengths, kind="stable")  # neighbours differ little in length
    result = np.zeros((len(speech), teacher.dimension), np.float16)
    done = 0
    while done < len(order):
        longest = speech.lengths[order[min(done + 15, len(order) - 1)]] / SAMPLE_RATE
        batch = order[done : done + max(1, int(batch_seconds / longest))]
        waveforms = [at_speed(speech.segment(i), speed) for i in batch]
        shortest = min(map(len, waveforms))
        stack = torch.from_numpy(np.stack([w[:shortest] for w in waveforms]))
        with torch.inference_mode():
            features = teacher.features(stack)
            with torch.autocast("cpu", torch.bfloat16):
                result[batch] = teacher.embed_features(features).numpy()
        done += len(batch)
        if progress:
            progress(done, len(order))
    with whole_file(path) as part, part.open("wb") as out:
        np.save(out, result)
    return result


def at_speed(waveform: npt.NDArray[np.float32], speed: float) -> npt.NDArray[np.float32]:
    """``waveform`` (n,) played ``speed`` times as fast: float32 (about n / speed,)."""
    if speed == 1:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, "HQ"), np.float32)
