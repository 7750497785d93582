"""Audio as a 16-bit file holds it: what a verifier hears, and what is saved as an attack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from speakerguard.files import whole_file
from speakerguard.sound.audio import Waveform

TAG = "synthetic speech, made by advgan to test speaker verification; not a recording of a person"
Pcm = npt.NDArray[np.int16]


def to_pcm(waveform: Waveform) -> Pcm:
    """What a 16-bit file holds of ``waveform``, float in [-1, 1]: int16 (n,)."""
    return np.clip(np.rint(waveform * 32_768.0), -32_768, 32_767).astype(np.int16)


def from_pcm(pcm: Pcm) -> Waveform:
    """What is read back from it: float32 (n,)."""
    return pcm.astype(np.float32) / np.float32(32_768)


def checked(waveform: Waveform, maker: str) -> Waveform:
    """``waveform`` itself, if it is sound: finite floating-point samples (n,).

    Raises:
        ValueError: it is something else; the message names its ``maker``.
    """
    given = np.asarray(waveform)
    if given.ndim == 1 and given.dtype.kind == "f" and np.isfinite(given).all():
        return given
    raise ValueError(
        f"{maker} gave {given.dtype} of shape {given.shape}, or values that are not finite; audio "
        "is float32 (n,), in [-1, 1]."
    )


def straight_through(waveform: Tensor, seen: Waveform) -> Tensor:
    """``seen`` going forward, the identity going back; ``seen`` is cut or padded to fit."""
    fitted = np.zeros(len(waveform), np.float32)
    count = min(len(seen), len(fitted))
    fitted[:count] = seen[:count]
    return waveform + (torch.from_numpy(fitted) - waveform.detach())


def save_wav(path: Path, waveform: Waveform, rate: int, tag: bool = True) -> None:
    """Write 16-bit mono WAV, at once or not at all, that says it is synthetic unless told not to.

    Raises:
        UsageError: it cannot be written.
    """
    with (
        whole_file(path) as part,
        part.open("wb") as opened,  # libsndfile cannot open every name
        soundfile.SoundFile(opened, "w", rate, 1, "PCM_16", format="WAV") as file,
    ):
        if tag:
            file.comment, file.software = TAG, "advgan"
        file.write(to_pcm(waveform))  # rounds, where libsndfile would cut off


def tagged(path: Path) -> bool:
    """Whether a WAV file says that it is synthetic."""
    with soundfile.SoundFile(path) as file:
        return str(file.comment).startswith("synthetic speech")
