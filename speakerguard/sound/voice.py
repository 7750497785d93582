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
OCTAVE_COST = 0.05  # of correlation; two periods are as alike as one


def at_speed(waveform: Waveform, speed: float) -> Waveform:
    """``waveform`` (n,) played ``speed`` times as fast: float32 (about n / speed,)."""
    if speed == 1:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, "HQ"), np.float32)


def change_voice(waveform: Waveform, pitch: float, formants: float) -> Waveform:
    """The same words by a voice whose pitch and formants are so many times as high.

    The result lasts about ``1 / pitch`` as long.
    """
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
    pitch = (pitch_of(other) / pitch_of(waveform)) ** share
    pitch = float(np.clip(pitch, 0.6, 1.6))
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


def pitch_of(waveform: Waveform) -> float:
    """Median pitch of the loud frames in Hz, by autocorrelation; it may err by an octave."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 1024)[::512]
    energy = np.square(frames).sum(axis=1)
    taper = np.hanning(1024)
    correlation = _autocorrelation(frames[energy >= energy.mean()] * taper)
    correlation /= correlation[:, :1]
    own = _autocorrelation(taper[None])
    lags = np.arange(SAMPLE_RATE // HIGHEST, SAMPLE_RATE // LOWEST)
    strength = correlation[:, lags] / (own[:, lags] / own[:, :1]) - OCTAVE_COST * np.log2(lags)
    return SAMPLE_RATE / float(np.median(lags[strength.argmax(axis=1)]))


def _autocorrelation(frames: Floats) -> Floats:
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, 2 * frames.shape[1]))))


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
