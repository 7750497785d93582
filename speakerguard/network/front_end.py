"""Front ends: waveform to filterbank, differentiable, stored with the weights they belong to.

Two variants exist. :class:`LogMelFrontEnd` is the guard's own. :class:`DeepSpeakerFrontEnd` is
the one the public Deep Speaker weights were trained with (python_speech_features filterbanks,
each frame normalised), so that those weights can be used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.sound.filterbank import (
    BANDS,
    DEEP_SPEAKER_FLOOR,
    FFT,
    HOP,
    LEAST_DEVIATION,
    LOGMEL_FLOOR,
    PREEMPHASIS,
    WINDOW,
    hz_to_mel,
    mel_filters,
)


class LogMelFrontEnd(nn.Module):
    """Log mel filterbank, minus its mean over time: (B, samples) to (B, frames, 64).

    Pre-emphasis 0.97, Hamming window of 25 ms every 10 ms without padding, power spectrum,
    64 bands from 20 to 7,600 Hz, natural logarithm. Removing the mean makes the result
    independent of gain and of any fixed channel, for all that is louder than the floor of 1e-8.

    >>> LogMelFrontEnd()(torch.zeros(2, 16_000)).shape
    torch.Size([2, 98, 64])
    """

    name = "logmel"
    min_samples = WINDOW

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hamming_window(WINDOW, periodic=False)
        self.register_buffer("window", window, persistent=False)
        filters = torch.from_numpy(mel_filters(BANDS, 20.0, 7_600.0)).float()
        self.register_buffer("filters", filters, persistent=False)

    @staticmethod
    def frames(samples: Tensor) -> Tensor:
        """Number of frames that so many samples give."""
        return (samples - WINDOW) // HOP + 1

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Filterbank of a batch, 0 beyond the end of each clip.

        Args:
            waveform: (B, samples), 16 kHz, in [-1, 1], zero-padded where clips differ.
            lengths: int64 (B,), samples of each clip; None when all fill the batch.

        Raises:
            UsageError: a clip is shorter than one window.
        """
        _require_length(waveform, lengths, self.min_samples)
        energy = torch.matmul(_power(_emphasised(waveform), self.window), self.filters.T)
        bands = torch.log(energy + LOGMEL_FLOOR)
        if lengths is None:
            return bands - bands.mean(dim=1, keepdim=True)
        count = self.frames(lengths).to(bands.device)
        inside = (torch.arange(bands.shape[1], device=bands.device) < count[:, None])[..., None]
        mean = (bands * inside).sum(dim=1, keepdim=True) / count[:, None, None]
        return (bands - mean) * inside


class DeepSpeakerFrontEnd(nn.Module):
    """The ancestor's features: linear filterbank energies, each frame to mean 0 and deviation 1.

    Reproduces ``python_speech_features.fbank(nfilt=64, winlen=0.025, winstep=0.01)`` followed by
    ``(frame - mean) / max(deviation, 1e-12)``: no logarithm, a rectangular window, filters whose
    edges fall on whole FFT bins, and a last frame padded with zeros. Source: deep_speaker/audio.py
    of philipperemy/deep-speaker. Input (B, samples), output (B, frames, 64).

    >>> DeepSpeakerFrontEnd()(torch.zeros(2, 16_000)).shape
    torch.Size([2, 99, 64])
    """

    name = "deep-speaker"
    min_samples = 1

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.ones(WINDOW), persistent=False)
        mel = np.linspace(hz_to_mel(0), hz_to_mel(SAMPLE_RATE / 2), BANDS + 2)
        edges = np.floor((FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE)
        bins = np.arange(FFT // 2 + 1)
        width = np.maximum(np.diff(edges), 1)
        rising = (bins - edges[:-2, None]) / width[:-1, None]
        rising[bins >= edges[1:-1, None]] = 1  # where the low bands have no rising side
        falling = (edges[2:, None] - bins) / width[1:, None]
        filters = np.minimum(rising, falling)
        filters[(bins < edges[:-2, None]) | (bins >= edges[2:, None])] = 0
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    @staticmethod
    def frames(samples: Tensor) -> Tensor:
        """Number of frames that so many samples give; a part of a frame counts."""
        return torch.clamp((samples - WINDOW + HOP - 1) // HOP, min=0) + 1

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Filterbank of a batch, 0 beyond the end of each clip.

        Args:
            waveform: (B, samples), 16 kHz, in [-1, 1], zero-padded where clips differ.
            lengths: int64 (B,), samples of each clip; None when all fill the batch.

        Raises:
            UsageError: a clip is empty.
        """
        _require_length(waveform, lengths, self.min_samples)
        samples = waveform.shape[1]
        emphasised = _emphasised(waveform)
        if lengths is not None:
            lengths = lengths.to(waveform.device)
            emphasised = emphasised * (
                torch.arange(samples, device=waveform.device) < lengths[:, None]
            )
        count = int(self.frames(torch.tensor(samples)))
        emphasised = nn.functional.pad(emphasised, (0, (count - 1) * HOP + WINDOW - samples))
        # 1 / FFT as python_speech_features has it
        energy = torch.matmul(_power(emphasised, self.window) / FFT, self.filters.T)
        energy = torch.clamp(energy, min=DEEP_SPEAKER_FLOOR)
        centred = energy - energy.mean(dim=2, keepdim=True)
        deviation = energy.std(dim=2, keepdim=True, correction=0)
        bands = centred / torch.clamp(deviation, min=LEAST_DEVIATION)
        if lengths is None:
            return bands
        inside = torch.arange(count, device=bands.device) < self.frames(lengths)[:, None]
        return bands * inside[..., None]


def _require_length(waveform: Tensor, lengths: Tensor | None, least: int) -> None:
    shortest = waveform.shape[1] if lengths is None else int(lengths.min())
    if shortest < least:
        raise UsageError(f"a clip of {shortest} samples is too short; {least} are the least.")


def _emphasised(waveform: Tensor) -> Tensor:
    first, rest = waveform[:, :1], waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]
    return torch.cat([first, rest], dim=1)


def _power(emphasised: Tensor, window: Tensor) -> Tensor:
    """Power spectrum of frames: (B, samples) to (B, frames, FFT // 2 + 1)."""
    spectrum = torch.fft.rfft(emphasised.unfold(1, WINDOW, HOP) * window, n=FFT)
    return spectrum.real.square() + spectrum.imag.square()


FRONT_ENDS: dict[str, type[LogMelFrontEnd] | type[DeepSpeakerFrontEnd]] = {
    front_end.name: front_end for front_end in (LogMelFrontEnd, DeepSpeakerFrontEnd)
}
