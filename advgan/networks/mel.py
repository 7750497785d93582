"""The one mel convention of the attacker: 22.05 kHz, 1024 / 256, 80 bands, log10 with a floor.

Generator, discriminator and vocoders all speak it, and each checkpoint carries it, so that parts
made for different conventions are never joined. The bands are those AGAIN-VC was published with
(Slaney's mel scale, area-normalised, magnitudes, 0 to 11,025 Hz); the floor is ours, since the
logarithm of digital silence is not a number. Everything is differentiable.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from speakerguard.errors import AudioError, CheckpointError
from speakerguard.sound import audio
from speakerguard.sound.audio import AudioSource, Waveform

LEVEL = 10 ** (-26 / 20)  # RMS of every clip before its mel is taken
MIN_FRAMES = 16  # shortest clip to convert, 0.19 s; statistics over less mean nothing


class MelConvention(BaseModel):
    """What a mel spectrogram means. The defaults are the convention used throughout.

    Attributes:
        sample_rate: Hz.
        n_fft, hop: samples; the Hann window fills ``n_fft`` and frames are centred.
        bands: mel bands, Slaney scale, from ``f_min`` to ``f_max`` Hz.
        log: of magnitudes, not powers.
        floor: magnitudes below count as this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: int = 22_050
    n_fft: int = 1024
    hop: int = 256
    bands: int = 80
    f_min: float = 0.0
    f_max: float = 11_025.0
    log: Literal["log10"] = "log10"
    floor: float = 1e-5

    @property
    def silence(self) -> float:
        """The value of a silent band."""
        return math.log10(self.floor)

    def require(self, other: MelConvention, what: str) -> None:
        """Refuse a part made for another convention.

        Raises:
            CheckpointError: the conventions differ; the message shows both.
        """
        if self != other:
            raise CheckpointError(
                f"{what} was made for another mel convention. Its own: {other}. The one in use: "
                f"{self}. Train or choose a part for the same convention, or use Griffin-Lim, "
                "which takes any."
            )


STANDARD = MelConvention()


class MelSpectrogram(nn.Module):
    """Waveforms (B, samples) in [-1, 1] to mel spectrograms (B, bands, 1 + samples // hop).

    >>> MelSpectrogram()(torch.zeros(2, 22_050)).shape
    torch.Size([2, 80, 87])
    """

    window: Tensor
    filters: Tensor

    def __init__(self, convention: MelConvention = STANDARD) -> None:
        super().__init__()
        self.convention = convention
        self.register_buffer("window", torch.hann_window(convention.n_fft), persistent=False)
        filters = torch.from_numpy(mel_filters(convention)).float()
        self.register_buffer("filters", filters, persistent=False)

    def magnitudes(self, waveform: Tensor) -> Tensor:
        """Linear spectrogram (B, n_fft // 2 + 1, frames); needs more than n_fft / 2 samples."""
        spectrum = torch.stft(
            waveform, self.convention.n_fft, self.convention.hop, window=self.window,
            return_complex=True,
        )  # fmt: skip
        return spectrum.abs()

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        bands = torch.matmul(self.filters, self.magnitudes(waveform))
        return bands.clamp(min=self.convention.floor).log10()


@functools.cache
def mel_filters(convention: MelConvention = STANDARD) -> npt.NDArray[np.float64]:
    """Triangles of area 1 on Slaney's mel scale: float64 (bands, n_fft // 2 + 1).

    Equal to ``librosa.filters.mel`` with its defaults (Auditory Toolbox, Slaney 1998).
    """
    low, high = _to_mel(convention.f_min), _to_mel(convention.f_max)
    edges = _to_hz(np.linspace(low, high, convention.bands + 2))
    bins = np.linspace(0, convention.sample_rate / 2, convention.n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


def read(source: AudioSource) -> Waveform:
    """Any recording as a waveform float32 (n,) at 22.05 kHz, at :data:`LEVEL`.

    It passes through the guard's own reader, so it holds nothing above 8 kHz and raises the same
    errors.

    Raises:
        AudioError: it cannot be read, or is too short to be converted.
    """
    wide = widened(audio.read(source))
    if len(wide) < MIN_FRAMES * STANDARD.hop:
        seconds, least = len(wide) / STANDARD.sample_rate, MIN_FRAMES * STANDARD.hop
        name = source if isinstance(source, str) else getattr(source, "name", "<audio>")
        raise AudioError(
            f"{audio.printable(name)}: only {seconds:.2f} s long; at least "
            f"{least / STANDARD.sample_rate:.2f} s are needed. Choose a longer recording."
        )
    return wide


def widened(waveform: Waveform) -> Waveform:
    """``waveform``, (n,) at 16 kHz, at 22.05 kHz and :data:`LEVEL`."""
    return levelled(soxr.resample(waveform, audio.SAMPLE_RATE, STANDARD.sample_rate, "VHQ"))


def levelled(waveform: Waveform) -> Waveform:
    """``waveform`` with an RMS of :data:`LEVEL`; silence stays as it is."""
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    return (waveform * (LEVEL / rms if rms > 1e-9 else 1.0)).astype(np.float32)


def resample(waveform: Tensor, rate: int, to: int) -> Tensor:
    """Change the rate of waveforms (B, n) to (B, about n · to / rate), with gradient.

    The spectrum is cut or extended, so the ends see each other; fade them or give room.

    >>> resample(torch.zeros(1, 22_050), 22_050, 16_000).shape
    torch.Size([1, 16000])
    """
    divisor = math.gcd(rate, to)
    unit, new_unit = rate // divisor, to // divisor
    count = -(-waveform.shape[1] // unit)
    padded = nn.functional.pad(waveform, (0, count * unit - waveform.shape[1]))
    spectrum = torch.fft.rfft(padded)
    kept = count * min(unit, new_unit) // 2 + 1
    result = torch.fft.irfft(spectrum[:, :kept], n=count * new_unit) * (new_unit / unit)
    return result[:, : waveform.shape[1] * to // rate]


def to_guard(waveform: Tensor) -> Tensor:
    """Waveforms (B, n) at 22.05 kHz as the guard hears them, at 16 kHz; differentiable."""
    return resample(waveform, STANDARD.sample_rate, audio.SAMPLE_RATE)


def from_guard(waveform: Tensor) -> Tensor:
    """Waveforms (B, n) at 16 kHz brought to 22.05 kHz; differentiable."""
    return resample(waveform, audio.SAMPLE_RATE, STANDARD.sample_rate)


def _to_mel(hz: float) -> float:
    """Slaney: linear to 1 kHz, 15 mel; above, a factor of 6.4 for every 27."""
    return hz * 3 / 200 if hz < 1_000 else 15 + 27 * math.log(hz / 1_000) / math.log(6.4)


def _to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1_000 * 6.4 ** ((mel - 15) / 27))
