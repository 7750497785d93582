"""What happens to a voice on its way to the microphone, simulated: rooms, noise, channels, codecs.

All functions take and give waveforms float32 (n,) at 16 kHz and keep their length. Randomness
comes only from the generator passed in.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speakerguard.errors import UsageError
from speakerguard.sound.audio import AUDIO_SUFFIXES, SAMPLE_RATE, Waveform, read

Generator = np.random.Generator
LOUDEST_SNR, FAINTEST_SNR = 2.0, 20.0  # dB, range of added noise and babble


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Recorded noise and room responses, held in memory: int16 and float32 arrays."""

    noises: tuple[np.ndarray[tuple[int], np.dtype[np.int16]], ...]
    rooms: tuple[Waveform, ...]

    @classmethod
    def load(cls, folder: Path) -> NoiseBank:
        """Read all audio below ``folder``, room responses from where the path there says ``rir``.

        Noises of a second or less are left out.

        Raises:
            UsageError: no such folder, it holds neither noise nor room response, or a silent one.
        """
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder. Name the folder of noises, or leave it out."
            )
        noises, rooms = [], []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            waveform = read(path)
            if not waveform.any():
                raise UsageError(f"{path}: is silent. Remove it.")
            if "rir" in path.relative_to(folder).as_posix().lower():
                rooms.append(waveform[: SAMPLE_RATE // 2] / np.abs(waveform).max())
            elif len(waveform) > SAMPLE_RATE:
                noises.append((waveform * 32_767).astype(np.int16))
        if not noises and not rooms:
            raise UsageError(f"{folder}: holds no noise or room response in any sub-folder.")
        return cls(tuple(noises), tuple(rooms))


@dataclass(frozen=True, eq=False)
class Augmenter:
    """A random chain of distortions.

    Attributes:
        bank: noises and room responses; either may be empty.
        voice: gives another random voice of at least n samples, for babble.
    """

    bank: NoiseBank
    voice: Callable[[int, Generator], Waveform]

    def __call__(self, waveform: Waveform, strength: float, rng: Generator) -> Waveform:
        """Distort ``waveform``; ``strength`` in [0, 1] scales how often each step happens."""
        if rng.random() < 0.4 * strength:
            waveform = reverberate(waveform, self._room(rng))
        if rng.random() < 0.3 * strength:
            waveform = equalise(waveform, rng)
        if rng.random() < 0.6 * strength:
            noise = self._noise(len(waveform), rng)
            waveform = add_noise(waveform, noise, rng.uniform(LOUDEST_SNR, FAINTEST_SNR))
        if rng.random() < 0.15 * strength:
            waveform = telephone(waveform, rng)
        if rng.random() < 0.1 * strength:
            waveform = compress(waveform, rng)
        if rng.random() < 0.05 * strength:
            waveform = np.clip(waveform * 10 ** rng.uniform(0.5, 1.5), -1, 1)
        peak = max(float(np.abs(waveform).max()), 1e-6)
        return (waveform * (10 ** rng.uniform(-1.5, 0) / peak)).astype(np.float32)

    def babble(self, count: int, rng: Generator) -> Waveform:
        """Three to seven voices at once, each as loud as the others: (count,)."""
        voices = [_level(self.voice(count, rng)) for _ in range(rng.integers(3, 8))]
        return np.sum(voices, axis=0, dtype=np.float32)

    def _room(self, rng: Generator) -> Waveform:
        if self.bank.rooms and rng.random() < 0.2:
            return self.bank.rooms[rng.integers(len(self.bank.rooms))]
        return simulated_room(rng)

    def _noise(self, count: int, rng: Generator) -> Waveform:
        if not self.bank.noises or rng.random() < 0.45:
            return self.babble(count, rng)
        if rng.random() < 0.1:
            return coloured_noise(count, rng)
        noise = self.bank.noises[rng.integers(len(self.bank.noises))]
        start = int(rng.integers(len(noise)))
        return np.resize(np.roll(noise, -start)[:count], count).astype(np.float32) / np.float32(
            32_768
        )


def reverberate(waveform: Waveform, room: Waveform) -> Waveform:
    """Convolve with a room response, aligned on its direct sound, at the same level."""
    from scipy.signal import fftconvolve

    direct = int(np.abs(room).argmax())
    wet = fftconvolve(waveform, room)[direct : direct + len(waveform)]
    return (wet * (rms(waveform) / rms(wet))).astype(np.float32)


def simulated_room(rng: Generator) -> Waveform:
    """A room response: direct sound, a few reflections, then exponentially decaying noise.

    Reverberation time 0.1 to 0.9 s, direct-to-reverberant ratio -3 to 15 dB.
    """
    decay = rng.uniform(0.1, 0.9)
    count = int(min(decay, 0.5) * SAMPLE_RATE)
    tail = rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / (decay * SAMPLE_RATE))
    gap = int(rng.uniform(0.002, 0.02) * SAMPLE_RATE)
    tail[:gap] = 0
    tail[rng.integers(gap // 2, gap * 3, 4)] += rng.uniform(-3, 3, 4)
    tail *= 10 ** (-rng.uniform(-3, 15) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def add_noise(waveform: Waveform, noise: Waveform, snr: float) -> Waveform:
    """Add ``noise`` at ``snr`` dB below the waveform."""
    gain = rms(waveform) / rms(noise) * 10 ** (-snr / 20)
    return (waveform + gain * noise).astype(np.float32)


def coloured_noise(count: int, rng: Generator) -> Waveform:
    """Noise whose spectrum falls by 0 to 12 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -rng.uniform(0, 2)
    return np.fft.irfft(spectrum, count).astype(np.float32)


def equalise(waveform: Waveform, rng: Generator) -> Waveform:
    """Another microphone: a smooth random response within about 12 dB, zero phase."""
    count = len(waveform)
    points = np.linspace(0, 1, 8)
    gains = np.interp(np.linspace(0, 1, count // 2 + 1) ** 0.5, points, rng.normal(0, 5, 8))
    spectrum = np.fft.rfft(waveform) * 10 ** (gains / 20)
    return np.fft.irfft(spectrum, count).astype(np.float32)


def telephone(waveform: Waveform, rng: Generator) -> Waveform:
    """A telephone line: about 300 to 3,400 Hz at 8 kHz, half of the time with 8-bit mu-law."""
    count = len(waveform)
    narrow = soxr.resample(waveform, SAMPLE_RATE, 8_000, "MQ")
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / 8_000)
    spectrum[(hz < rng.uniform(50, 300)) | (hz > rng.uniform(3_300, 3_900))] *= 0.01
    narrow = np.fft.irfft(spectrum, len(narrow))
    if rng.random() < 0.5:
        narrow = narrow / max(np.abs(narrow).max(), 1e-6)
        law = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
        law = np.round(law * 127) / 127
        narrow = np.sign(law) * np.expm1(np.abs(law) * np.log(256)) / 255
    wide = soxr.resample(narrow, 8_000, SAMPLE_RATE, "MQ")
    return np.resize(wide, count).astype(np.float32)


def compress(waveform: Waveform, rng: Generator) -> Waveform:
    """An encode and decode round trip through MP3 or Ogg Vorbis at a low rate."""
    buffer = io.BytesIO()
    container, codec = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))[int(rng.integers(2))]
    level = float(rng.uniform(0.6, 1.0))
    peak = max(float(np.abs(waveform).max()), 1e-6)
    try:
        soundfile.write(
            buffer, waveform / peak, SAMPLE_RATE, codec, format=container, compression_level=level
        )
        buffer.seek(0)
        decoded, _ = soundfile.read(buffer, dtype="float32")
    except soundfile.LibsndfileError:  # rare: the encoder gives up on a clip
        return waveform
    return np.resize(decoded, len(waveform)) * np.float32(peak)


def rms(waveform: Waveform) -> float:
    """Root mean square, at least 1e-6, so that silence can be divided by."""
    return max(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))), 1e-6)


def _level(waveform: Waveform) -> Waveform:
    return waveform / np.float32(rms(waveform))
