"""From frames of a waveform to the energy in bands, and what every filterbank at 16 kHz shares.

Three mel scales are in use, of three traditions: HTK's (:func:`mel_filters`), which the guard
learned with; Kaldi's (:func:`kaldi_filters`), which CAM++ and most foreign models did; and Slaney's
(:func:`slaney_filters`), which Resemblyzer did.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from speakerguard.sound.audio import SAMPLE_RATE, Waveform

WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
FFT = 512  # the next power of two
BANDS = 64  # of the guard
PREEMPHASIS = 0.97
LOGMEL_FLOOR = 1e-8  # added to energies: below 16-bit rounding noise; keeps silence finite
DEEP_SPEAKER_FLOOR = float(np.finfo(np.float64).eps)  # of energies, as python_speech_features has
LEAST_DEVIATION = 1e-12  # of a frame, where Deep Speaker divides by it
KALDI_FLOOR = float(np.finfo(np.float32).eps)  # of energies
WINDOWS = {
    "povey": np.hanning(WINDOW) ** 0.85,
    "hamming": np.hamming(WINDOW),
    "hann": np.hanning(WINDOW),
}


def mel_filters(bands: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """Triangular filters, evenly spaced on the HTK mel scale: float64 (bands, FFT // 2 + 1).

    ``low`` and ``high`` are the outer edges in Hz. Equal to ``librosa.filters.mel`` with
    ``htk=True, norm=None``.

    >>> mel_filters(64, 20, 7600).shape
    (64, 257)
    """
    mel = np.linspace(hz_to_mel(low), hz_to_mel(high), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def hz_to_mel(hz: float) -> float:
    """HTK's mel scale."""
    return float(2595 * np.log10(1 + hz / 700))


def fbank(
    waveform: Waveform,
    filters: npt.NDArray[np.float64],
    window: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Kaldi's log mel filterbank, without dither: float32 (n,) to (frames, bands).

    Each window loses its mean and is pre-emphasised by itself; there is no padding at the ends
    (compute-fbank-feats with snip-edges).
    """
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft((frames - PREEMPHASIS * previous) * window, n=FFT)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(np.maximum(power @ filters.T, KALDI_FLOOR)).astype(np.float32)


def kaldi_filters(bands: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """Kaldi's triangles, linear on the mel axis: float64 (bands, FFT // 2 + 1)."""

    def mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127 * np.log(1 + hz / 700)

    lowest, highest = mel(np.array([low, high])).tolist()
    edges = np.linspace(lowest, highest, bands + 2)
    bins = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)
    rising = (bins - edges[:-2, None]) / (edges[1] - edges[0])
    falling = (edges[2:, None] - bins) / (edges[1] - edges[0])
    return np.maximum(0, np.minimum(rising, falling))


def slaney_filters(bands: int, size: int) -> npt.NDArray[np.float64]:
    """Triangles of area 1, linear in Hz to 1 kHz and logarithmic above: (bands, size // 2 + 1).

    Malcolm Slaney's Auditory Toolbox; equal to ``librosa.filters.mel`` at 16 kHz as it is.

    >>> slaney_filters(40, 400).shape
    (40, 201)
    """
    linear, octave = 200 / 3, np.log(6.4) / 27  # Hz, and logarithm, of one step
    top = 1_000 / linear + np.log(SAMPLE_RATE / 2 / 1_000) / octave
    steps = np.linspace(0, top, bands + 2)
    above = 1_000 * np.exp(octave * np.maximum(steps - 1_000 / linear, 0))
    edges = np.where(steps * linear < 1_000, steps * linear, above)
    bins = np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    height = 2 / (edges[2:] - edges[:-2])
    filters: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters * height[:, None]


def dft_basis(window: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Windowed cosines, then sines, of all bins of an FFT: float32 (2 * bins, n).

    Args:
        window: (n,), n at most ``size``.
        size: of the FFT, which has size // 2 + 1 bins.
    """
    angle = 2 * np.pi / size * (np.arange(size // 2 + 1)[:, None] * np.arange(len(window)) % size)
    return (np.concatenate([np.cos(angle), np.sin(angle)]) * window).astype(np.float32)
