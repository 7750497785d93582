"""How good converted speech sounds, and how much of the source it kept."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerguard.sound.audio import SAMPLE_RATE, Waveform

LOWEST, HIGHEST = 60.0, 420.0  # Hz, of a voice's pitch
_FRAME, _HOP = 1024, 256
_VOICED = 0.5  # least normalised autocorrelation of a voiced frame


def dnsmos(waveform: Waveform) -> dict[str, float] | None:
    """DNSMOS P.835 of float32 (n,) at 16 kHz: overall, signal, background, P.808; 1 to 5.

    Reddy et al. 2022 (arXiv 2110.01763), through the package speechmos; None where that is not
    installed.
    """
    model = _dnsmos()
    if model is None:
        return None
    result = model.run(np.clip(waveform, -1.0, 1.0), sr=SAMPLE_RATE)
    return {
        "overall": float(result["ovrl_mos"]),
        "signal": float(result["sig_mos"]),
        "background": float(result["bak_mos"]),
        "p808": float(result["p808_mos"]),
    }


@functools.cache
def _dnsmos() -> Any:
    try:
        from speechmos import dnsmos as model
    except ImportError:
        return None
    return model


def pitch(waveform: Waveform) -> npt.NDArray[np.float64]:
    """Pitch in Hz every 16 ms of a waveform (n,) at 16 kHz, NaN where no voice: float64 (frames,).

    The strongest lag of the autocorrelation, divided by that of its window (Boersma 1993).

    >>> time = np.arange(16_000) / 16_000
    >>> buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    >>> round(float(np.nanmedian(pitch(buzz.astype(np.float32)))))
    120
    """
    if len(waveform) < _FRAME:
        return np.zeros(0)
    window = np.hanning(_FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * window
    power = np.square(np.abs(np.fft.rfft(frames, 2 * _FRAME, axis=1)))
    own = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, 2 * _FRAME))))[: _FRAME // 2]
    correlation = np.fft.irfft(power, axis=1)[:, : _FRAME // 2]
    energy = correlation[:, 0]
    strength = correlation * own[0] / own / np.maximum(energy[:, None], 1e-12)
    low, high = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    # of lags nearly as strong the shortest, or the pitch would fall by octaves
    lags = low + np.argmax(strength[:, low:high] - 0.001 * np.arange(high - low) / 10, axis=1)
    best = strength[np.arange(len(lags)), lags]
    voiced = (best > _VOICED) & (energy > 0.01 * energy.max(initial=1e-12))
    return np.where(voiced, SAMPLE_RATE / lags, np.nan)


def pitch_correlation(source: Waveform, converted: Waveform) -> float:
    """Correlation of log pitch where both, (n,) at 16 kHz, are voiced; NaN under ten frames."""
    a, b = pitch(source), pitch(converted)
    count = min(len(a), len(b))
    a, b = np.log(a[:count]), np.log(b[:count])
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 10 or a[both].std() < 1e-9 or b[both].std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(a[both], b[both])[0, 1])
