"""How good synthetic speech sounds, and how much of the source an attack left."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.voice import pitch_track

_WINDOW, _STEP = 512, 256  # samples, of a log spectrum
_RATE = 10_000  # Hz, at which STOI listens
_SEGMENT = 30  # frames, 384 ms
_CLIP = 1 + 10 ** (15 / 20)  # least signal to distortion that still counts, -15 dB
_FLOOR = 1e-10


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


def pitch_correlation(source: Waveform, converted: Waveform) -> float | None:
    """Correlation of log pitch where both, (n,) at 16 kHz, are voiced; None under ten frames."""
    a, b = pitch_track(source), pitch_track(converted)
    count = min(len(a), len(b))
    a, b = np.log(a[:count]), np.log(b[:count])
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 10 or a[both].std() < 1e-9 or b[both].std() < 1e-9:
        return None
    return float(np.corrcoef(a[both], b[both])[0, 1])


def quality(converted: Waveform, source: Waveform) -> dict[str, float | None]:
    """Figures of a conversion beside its source, as files have them; None if unknown."""
    opinion = dnsmos(converted)
    count = min(len(converted), len(source))
    figures = {
        "dnsmos": opinion["overall"] if opinion else None,
        "dnsmos_p808": opinion["p808"] if opinion else None,
        "stoi_to_source": stoi(source[:count], converted[:count]),
        "pitch_correlation": pitch_correlation(source, converted),
        "seconds": len(converted) / SAMPLE_RATE,
    }
    return {n: v if v is None or math.isfinite(v) else None for n, v in figures.items()}


def snr(source: Waveform, audio: Waveform) -> float:
    """dB of ``source`` over what was changed, both (n,); at most 120.

    >>> snr(np.ones(4, np.float32), np.full(4, 1.1, np.float32))
    20.0
    """
    wanted = float(np.square(source, dtype=np.float64).sum())
    change = float(np.square(audio.astype(np.float64) - source).sum())
    ratio = 10 * np.log10((wanted + 1e-12) / (change + 1e-12))
    return round(float(np.clip(ratio, -120, 120)), 2)


def log_spectral_distance(source: Waveform, audio: Waveform) -> float | None:
    """Root mean square difference of log power spectra, dB, over the frames of speech.

    None where there is not even one frame, 32 ms.
    """
    powers = [np.square(np.abs(_frames(x, _WINDOW, _STEP))) for x in (source, audio)]
    if not len(powers[0]):
        return None
    loud = powers[0].sum(axis=1) > 1e-4 * powers[0].sum(axis=1).max()
    floor = 1e-6 * powers[0].max() + 1e-12
    a, b = (10 * np.log10(power[loud] + floor) for power in powers)
    return round(float(np.sqrt(np.mean(np.square(a - b), axis=1)).mean()), 3)


def stoi(source: Waveform, audio: Waveform) -> float | None:
    """Short-time objective intelligibility of ``audio`` given ``source``, both (n,): 0 to 1.

    Taal et al., An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech, IEEE TASLP 19, 2011. None where there are less than 30 frames of speech.
    """
    clean, noisy = (soxr.resample(x, SAMPLE_RATE, _RATE).astype(np.float64)
                    for x in (source, audio))  # fmt: skip
    clean, noisy = _speech_only(clean, noisy)
    bands = _third_octaves()
    x, y = (np.sqrt(bands @ np.square(np.abs(_frames(part, 256, 128, 512))).T)
            for part in (clean, noisy))  # fmt: skip
    if x.shape[1] < _SEGMENT:
        return None
    windows = np.lib.stride_tricks.sliding_window_view
    x, y = windows(x, _SEGMENT, axis=1), windows(y, _SEGMENT, axis=1)  # (bands, segments, 30)
    scale = np.linalg.norm(x, axis=2, keepdims=True) / (
        np.linalg.norm(y, axis=2, keepdims=True) + _FLOOR
    )
    y = np.minimum(y * scale, x * _CLIP)
    x = x - x.mean(axis=2, keepdims=True)
    y = y - y.mean(axis=2, keepdims=True)
    product = (x * y).sum(axis=2)
    lengths = np.linalg.norm(x, axis=2) * np.linalg.norm(y, axis=2) + _FLOOR
    return round(float((product / lengths).mean()), 4)


def _speech_only(
    clean: npt.NDArray[np.float64], noisy: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both without the frames that are over 40 dB below the loudest of the clean one."""
    window = np.hanning(258)[1:-1]
    starts = range(0, len(clean) - 256, 128)
    parts = [np.stack([x[s : s + 256] * window for s in starts]) if len(starts) else
             np.zeros((0, 256)) for x in (clean, noisy)]  # fmt: skip
    energy = 20 * np.log10(np.linalg.norm(parts[0], axis=1) + _FLOOR)
    kept = energy > energy.max(initial=-1e9) - 40
    rebuilt = []
    for part in parts:
        part = part[kept]
        whole = np.zeros(len(part) * 128 + 128)
        for index, frame in enumerate(part):
            whole[index * 128 : index * 128 + 256] += frame
        rebuilt.append(whole)
    return rebuilt[0], rebuilt[1]


def _third_octaves() -> npt.NDArray[np.float64]:
    """15 bands from 150 Hz, (15, 257), of a spectrum of 512 points at 10 kHz."""
    hz = np.linspace(0, _RATE, 513)[:257]
    bands = np.zeros((15, 257))
    for index in range(15):
        centre = 150 * 2 ** (index / 3)
        low, high = (int(np.argmin(np.square(hz - centre * 2**side))) for side in (-1 / 6, 1 / 6))
        bands[index, low:high] = 1
    return bands


def _frames(
    waveform: npt.NDArray[np.floating], size: int, hop: int, fft: int | None = None
) -> npt.NDArray[np.complex128]:
    """Spectra (frames, bins) of windowed frames."""
    if len(waveform) <= size:
        return np.zeros((0, (fft or size) // 2 + 1), np.complex128)
    cut = np.lib.stride_tricks.sliding_window_view(waveform, size)[:-1:hop]
    return np.fft.rfft(cut * np.hanning(size + 2)[1:-1], fft or size)
