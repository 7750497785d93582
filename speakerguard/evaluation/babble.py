"""Babble: other people talking behind the voice that is judged, the hardest everyday noise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource, Waveform, read
from speakerguard.sound.augment import rms
from speakerguard.sound.corpus import speaker_of
from speakerguard.sound.speech import TIGHT, Speech, load_speech

VOICES = 4
_KEPT = 512  # recordings whose speech stays in memory


class Babble:
    """Recordings with :data:`VOICES` other speakers of the same list behind them.

    Which speakers and where they begin depends on the recording's name alone, so every model
    hears the same. Each is equally loud; together they lie ``snr`` dB below the RMS of the
    recording's own speech.

    Args:
        files: recordings by name, of five speakers or more.
        snr: signal-to-noise ratio in dB.

    Raises:
        UsageError: too few speakers.
    """

    def __init__(self, files: Mapping[str, AudioSource], snr: float) -> None:
        self.files, self.snr = files, snr
        self._names: dict[str, list[str]] = {}
        for name in sorted(files):
            self._names.setdefault(speaker_of(name), []).append(name)
        if len(self._names) <= VOICES:
            raise UsageError(
                f"babble needs {VOICES} speakers besides the one who is judged; the list has "
                f"{len(self._names)} in all."
            )
        self._speech = functools.lru_cache(_KEPT)(self._load)

    def __call__(self, name: str) -> Speech:
        """The speech found in recording ``name`` once the babble is in it.

        Raises:
            AudioError: the recording cannot be judged.
        """
        return load_speech((self.mixed(name), SAMPLE_RATE))

    def mixed(self, name: str) -> Waveform:
        """Recording ``name`` with its babble, quieter where it would clip: float32 (n,)."""
        waveform = read(self.files[name])
        noise = self.behind(name, len(waveform))
        gain = rms(self._speech(name)) * 10 ** (-self.snr / 20) / rms(noise)
        mixed = waveform + np.float32(gain) * noise
        peak = max(1.0, float(np.abs(mixed).max()))
        return (mixed / np.float32(peak)).astype(np.float32)

    def behind(self, name: str, count: int) -> Waveform:
        """The babble for recording ``name``: float32 (count,)."""
        rng = np.random.default_rng(list(sha256(name.encode()).digest()))
        others = [speaker for speaker in self._names if speaker != speaker_of(name)]
        total = np.zeros(count, np.float32)
        for speaker in rng.choice(others, VOICES, replace=False):
            names = self._names[str(speaker)]
            voice = self._speech(names[int(rng.integers(len(names)))])
            start = int(rng.integers(len(voice)))
            total += np.resize(np.roll(voice, -start), count) / np.float32(rms(voice))
        return total

    def _load(self, name: str) -> Waveform:
        return load_speech(self.files[name], min_seconds=0).within(TIGHT)
