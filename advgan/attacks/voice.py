"""Pitch of a voice, and speech with another pitch and other resonances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import istft, resample, stft

from speakerguard.sound.audio import SAMPLE_RATE, Waveform

LOWEST, HIGHEST = 60.0, 400.0  # Hz, of a voice's pitch
UNKNOWN = 150.0  # Hz, where no voice is heard
_FRAME, _HOP = 1024, 256
_LIFTER = 30  # cepstral coefficients that make the spectral envelope


def pitch_of(waveform: Waveform) -> float:
    """Median pitch in Hz of the voiced frames of ``waveform``, by autocorrelation.

    >>> time = np.arange(16_000, dtype=np.float32) / 16_000
    >>> buzz = sum(np.sin(2 * np.pi * 125 * k * time) / k for k in range(1, 20))
    >>> round(pitch_of(buzz.astype(np.float32)))
    125
    """
    if len(waveform) < _FRAME:
        return UNKNOWN
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME), 2 * _FRAME, axis=1)))
    window = np.fft.irfft(np.square(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME))))
    correlation = np.fft.irfft(power, axis=1)[:, : _FRAME // 2] / window[: _FRAME // 2]
    strength = correlation / np.maximum(correlation[:, :1], 1e-12)
    strength[np.logical_and.accumulate(strength > 0.4, axis=1)] = 0  # the peak around lag 0
    low, high = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    shorter = 1 - 0.3 * np.arange(low, high) / high  # else twice the period is as good
    lags = low + np.argmax(strength[:, low:high] * shorter, axis=1)
    loud = correlation[:, 0] > 0.1 * np.median(correlation[:, 0])
    voiced = loud & (strength[np.arange(len(lags)), lags] > 0.6)
    return float(SAMPLE_RATE / np.median(lags[voiced])) if voiced.any() else UNKNOWN


def reshaped(waveform: Waveform, pitch: float, formants: float) -> Waveform:
    """``waveform`` with its pitch and its resonances multiplied, at its own length and level.

    Time is stretched by ``pitch`` with a phase vocoder and the result resampled, which moves both;
    then the spectral envelope, smoothed by a cepstral lifter, is moved to where it should be.
    """
    stretched = _stretched(waveform, pitch)
    moved = resample(stretched, len(waveform)).astype(np.float32)
    spectrum = _stft(moved)
    envelope = _envelope(np.abs(spectrum))
    bins = np.arange(len(envelope))
    source_bins = np.clip(bins * pitch / formants, 0, len(envelope) - 1)
    wanted = np.stack([np.interp(source_bins, bins, frame) for frame in envelope.T], axis=1)
    changed = _istft(spectrum * np.exp(wanted - envelope), len(waveform))
    level = np.sqrt(np.mean(np.square(waveform)) / max(float(np.mean(np.square(changed))), 1e-12))
    return (changed * level).astype(np.float32)


def _stretched(waveform: Waveform, factor: float) -> Waveform:
    """``factor`` times as long at the same pitch: a phase vocoder (Flanagan and Golden 1966)."""
    spectrum = _stft(waveform)
    times = np.arange(0, spectrum.shape[1] - 1, 1 / factor)
    left = times.astype(int)
    share = times - left
    size = (1 - share) * np.abs(spectrum[:, left]) + share * np.abs(spectrum[:, left + 1])
    advance = np.angle(spectrum[:, left + 1] / (spectrum[:, left] + 1e-12) + 1e-12)
    expected = (2 * np.pi * _HOP / _FRAME * np.arange(len(spectrum)))[:, None]
    turned = expected + np.angle(np.exp(1j * (advance - expected)))
    phase = np.angle(spectrum[:, :1]) + np.cumsum(turned, axis=1) - turned[:, :1]
    return _istft(size * np.exp(1j * phase), round(len(waveform) * factor))


def _envelope(
    magnitude: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Smooth log magnitude of each frame, (bins, frames)."""
    cepstrum = np.fft.irfft(np.log(magnitude + 1e-6), axis=0)
    cepstrum[_LIFTER:-_LIFTER] = 0
    envelope: npt.NDArray[np.float64] = np.fft.rfft(cepstrum, axis=0).real.astype(np.float64)
    return envelope


def _stft(waveform: Waveform) -> npt.NDArray[np.complex128]:
    padded = np.pad(waveform.astype(np.float64), (0, max(0, _FRAME - len(waveform))))
    return stft(padded, SAMPLE_RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[2]


def _istft(spectrum: npt.NDArray[np.complex128], count: int) -> Waveform:
    waveform = istft(spectrum, SAMPLE_RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[1]
    fitted = np.zeros(count, np.float32)
    fitted[: min(count, len(waveform))] = waveform[:count]
    return fitted
