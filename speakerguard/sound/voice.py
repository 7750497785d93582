"""One voice made into another: pitch, formants, or the spectra of somebody else.

All functions take and give waveforms float32 (n,) at 16 kHz. A voice's *envelope* is what its
vocal tract does to the spectrum; the harmonics below it are its pitch. The envelope comes from
the low part of the cepstrum (Oppenheim and Schafer 1968), is changed, and filters the sound anew.
Pitch changes by resampling, which changes the pace as well, as a hurried speaker's does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.ndimage import uniform_filter1d
from scipy.signal import istft, stft
from scipy.spatial import cKDTree

from speakerguard.sound.audio import SAMPLE_RATE, Waveform

Floats = npt.NDArray[np.floating]

WINDOW, OVERLAP = 512, 384  # samples: 32 ms every 8 ms
LIFTER = 32  # cepstral values that make the envelope: 2 ms, under the period of most voices
NEIGHBOURS = 4  # frames of the other voice that stand for one of the own
KNOTS = (0, 400, 800, 1_300, 2_000, 3_000, 4_200, 8_000)  # Hz, between which formants move alike
MOST_GAIN = 3.0  # nepers, about 26 dB
LOWEST, HIGHEST = 60, 400  # Hz, the pitch of voices
LONG, STEP = 1024, 256  # samples, 64 ms every 16 ms: what pitch is found in, and time stretched
LEAST_RATIO, MOST_RATIO = 0.6, 1.6  # of pitch, between which the result still sounds like speech
VOICED = 0.6  # least normalised autocorrelation of a voiced frame


def at_speed(waveform: Waveform, speed: float) -> Waveform:
    """``waveform`` (n,) played ``speed`` times as fast: float32 (about n / speed,)."""
    if speed == 1:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, "HQ"), np.float32)


def change_voice(
    waveform: Waveform, pitch: float, formants: float, keep_pace: bool = False
) -> Waveform:
    """The same words by a voice whose pitch and formants are so many times as high.

    The result lasts about ``1 / pitch`` as long; with ``keep_pace`` as long as ``waveform``, and as
    loud, since that is stretched before by a phase vocoder.
    """
    if keep_pace:
        changed = change_voice(_stretched(waveform, pitch), pitch, formants)
        level = np.linalg.norm(waveform) / max(float(np.linalg.norm(changed)), 1e-9)
        return _fitted(changed * np.float32(level), len(waveform))
    played = at_speed(waveform, pitch)  # both rise by as much
    spectrum = _spectrum(played)
    envelope = _envelope(spectrum)
    bins = np.arange(envelope.shape[0])
    moved = np.clip(bins * pitch / formants, 0, bins[-1])
    low = np.floor(moved).astype(int).clip(max=bins[-1] - 1)
    part = (moved - low)[:, None]
    target = (1 - part) * envelope[low] + part * envelope[low + 1]
    return _filtered(spectrum, target - envelope, len(played))


def invent_voice(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """The same words by a voice that nobody has, drawn at random.

    Pitch moves by up to 40 %; formants move by up to a fifth, each by a little more or less than
    its neighbours, as they do between throats of different build; and each cepstral value swings
    more or less widely around its mean, as it does between speakers who articulate more or less.
    Lasts between 0.7 and 1.4 times as long.
    """
    pitch = float(np.exp(rng.uniform(-0.35, 0.35)))
    played = at_speed(waveform, pitch)
    spectrum = _spectrum(played)
    envelope = _envelope(spectrum)
    bins = np.arange(envelope.shape[0])
    bend = rng.uniform(-0.18, 0.18) + rng.normal(0, 0.07, len(KNOTS))
    bend = np.interp(bins * SAMPLE_RATE / WINDOW, KNOTS, bend)
    moved = np.maximum.accumulate(np.clip(bins * pitch * np.exp(-bend), 0, bins[-1]))
    low = np.floor(moved).astype(int).clip(max=bins[-1] - 1)
    part = (moved - low)[:, None]
    target = (1 - part) * envelope[low] + part * envelope[low + 1]
    middle = target.mean(axis=1, keepdims=True)
    cepstrum = np.fft.irfft(target - middle, axis=0)
    swing = np.exp(rng.normal(0, 0.15, LIFTER))
    cepstrum[1:LIFTER] *= swing[1:, None]
    cepstrum[-LIFTER + 1 :] *= swing[:0:-1, None]
    target = middle + np.fft.rfft(cepstrum, axis=0).real
    return _filtered(spectrum, target - envelope, len(played))


def mix_voices(waveform: Waveform, other: Waveform, share: float) -> Waveform:
    """The words of ``waveform`` with ``share``, in [0, 1], of another speaker's spectra and pitch.

    Each frame takes the envelope of the other's frames that sound most alike, both speakers freed
    of their own mean and deviation; so vowels meet vowels, whatever the words.
    """
    ratio = pitch_ratio(waveform, other) or 1.0  # what is not known is left as it is
    pitch = float(np.clip(ratio**share, LEAST_RATIO, MOST_RATIO))
    played = at_speed(waveform, pitch)
    spectrum = _spectrum(played)
    own = _envelope(spectrum)
    theirs = _envelope(_spectrum(other))
    loud = theirs.mean(axis=0) > np.median(theirs.mean(axis=0)) - 2
    theirs = theirs[:, loud] - theirs[:, loud].mean(axis=0)
    level = own.mean(axis=0)
    _, nearest = cKDTree(_standard(theirs)).query(_standard(own - level), NEIGHBOURS)
    target = level + theirs[:, nearest].mean(axis=2)
    return _filtered(spectrum, share * (target - own), len(played))


def pitch_ratio(waveform: Waveform, other: Waveform) -> float | None:
    """How many times as high ``other`` speaks; None where either has no voice."""
    own, theirs = pitch_of(waveform), pitch_of(other)
    if own is None or theirs is None:
        return None
    return theirs / own


def pitch_of(waveform: Waveform) -> float | None:
    """Median pitch in Hz of the voiced frames of ``waveform``; None where there are none."""
    found = pitch_track(waveform)
    voiced = found[np.isfinite(found)]
    return float(np.median(voiced)) if len(voiced) else None


def pitch_track(waveform: Waveform) -> Floats:
    """Pitch in Hz every 16 ms of a waveform (n,), NaN where no voice: float64 (frames,).

    The strongest lag of the autocorrelation beyond the peak around 0, divided by that of its
    window (Boersma 1993).

    >>> time = np.arange(16_000, dtype=np.float32) / 16_000
    >>> buzz = sum(np.sin(2 * np.pi * 125 * k * time) / k for k in range(1, 20))
    >>> round(pitch_of(buzz.astype(np.float32)))
    125
    """
    if len(waveform) < LONG:
        return np.zeros(0)
    taper = np.hanning(LONG)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, LONG)[::STEP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    own = _autocorrelation(taper[None])[:, : LONG // 2]
    correlation = _autocorrelation(frames * taper)[:, : LONG // 2] / own
    strength = correlation / np.maximum(correlation[:, :1], 1e-12)
    strength[np.logical_and.accumulate(strength > 0.4, axis=1)] = 0  # the peak around lag 0
    low, high = SAMPLE_RATE // HIGHEST, SAMPLE_RATE // LOWEST
    shorter = 1 - 0.3 * np.arange(low, high) / high  # else twice the period is as good
    lags = low + np.argmax(strength[:, low:high] * shorter, axis=1)
    loud = correlation[:, 0] > 0.1 * np.median(correlation[:, 0])
    voiced = loud & (strength[np.arange(len(lags)), lags] > VOICED)
    return np.where(voiced, SAMPLE_RATE / lags, np.nan)


def _autocorrelation(frames: Floats) -> Floats:
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, 2 * frames.shape[1]))))


def _stretched(waveform: Waveform, factor: float) -> Waveform:
    """``factor`` times as long at the same pitch: a phase vocoder (Flanagan and Golden 1966)."""
    padded = np.pad(waveform.astype(np.float64), (0, max(0, LONG - len(waveform))))
    _, _, spectrum = stft(padded, nperseg=LONG, noverlap=LONG - STEP)
    times = np.arange(0, spectrum.shape[1] - 1, 1 / factor)
    left = times.astype(int)
    share = times - left
    size = (1 - share) * np.abs(spectrum[:, left]) + share * np.abs(spectrum[:, left + 1])
    advance = np.angle(spectrum[:, left + 1] / (spectrum[:, left] + 1e-12) + 1e-12)
    expected = (2 * np.pi * STEP / LONG * np.arange(len(spectrum)))[:, None]
    turned = expected + np.angle(np.exp(1j * (advance - expected)))
    phase = np.angle(spectrum[:, :1]) + np.cumsum(turned, axis=1) - turned[:, :1]
    _, sound = istft(size * np.exp(1j * phase), nperseg=LONG, noverlap=LONG - STEP)
    return _fitted(sound, round(len(waveform) * factor))


def _fitted(sound: Floats, count: int) -> Waveform:
    """``sound`` (n,), cut or padded to ``count`` samples."""
    return np.pad(sound[:count], (0, max(0, count - len(sound)))).astype(np.float32)


def _spectrum(waveform: Waveform) -> npt.NDArray[np.complexfloating]:
    """(257, frames)."""
    _, _, spectrum = stft(waveform, nperseg=WINDOW, noverlap=OVERLAP)
    return spectrum


def _envelope(spectrum: npt.NDArray[np.complexfloating]) -> Floats:
    """Natural logarithm of the magnitude without the pitch: (257, frames)."""
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-7), axis=0)
    cepstrum[LIFTER : WINDOW - LIFTER + 1] = 0
    return np.fft.rfft(cepstrum, axis=0).real


def _standard(envelope: Floats) -> Floats:
    """Cepstra (frames, 20) with mean 0 and deviation 1, to compare frames of two speakers."""
    cepstra = np.fft.irfft(envelope, axis=0)[1:21].T
    return (cepstra - cepstra.mean(axis=0)) / (cepstra.std(axis=0) + 1e-9)


def _filtered(spectrum: npt.NDArray[np.complexfloating], gain: Floats, count: int) -> Waveform:
    """The sound of a spectrum with a gain in nepers, smoothed over 40 ms, at the level it had."""
    gain = np.clip(uniform_filter1d(gain, 5, axis=1), -MOST_GAIN, MOST_GAIN)
    _, waveform = istft(spectrum * np.exp(gain), nperseg=WINDOW, noverlap=OVERLAP)
    _, before = istft(spectrum, nperseg=WINDOW, noverlap=OVERLAP)
    level = np.abs(before).max() / max(np.abs(waveform).max(), 1e-9)
    return np.asarray(waveform[:count] * level, dtype=np.float32)
