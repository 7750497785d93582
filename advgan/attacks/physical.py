"""Cheap attacks with no model at all: replay, codecs, noise, mimicry, splicing, a synthesiser."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.signal import butter, sosfilt

from advgan.attacks.contract import Attack, Budget, Family, Voice
from advgan.victim.channels import round_trip
from advgan.victim.claim import Guard, Knowledge
from advgan.victim.plugins import NotRunError
from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import (
    add_noise,
    coloured_noise,
    reverberate,
    simulated_room,
    telephone,
)
from speakerguard.sound.voice import LEAST_RATIO, MOST_RATIO, change_voice, pitch_ratio

Of = Literal["source", "target"]


class Physical(Attack):
    """An attack without a model.

    Attributes:
        seconds: most speech of the target that is used; None for all that is there.
    """

    family: ClassVar[Family] = "physical"
    knowledge: ClassVar[Knowledge] = Knowledge.RECORDING
    seconds: float | None = Field(default=None, gt=0)

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(target_seconds=self.seconds)

    def known(self, target: Waveform) -> Waveform:
        """As much of ``target`` as may be used."""
        return target if self.seconds is None else target[: int(self.seconds * SAMPLE_RATE)]


class Replay(Physical):
    """The target's recording from a loudspeaker, in a room, through another microphone.

    Attributes:
        low, high: band of the loudspeaker in Hz.
        snr: dB of microphone noise below the speech.
    """

    name: ClassVar[str] = "replay"
    low: float = Field(default=150, gt=0)
    high: float = Field(default=7000, gt=0, lt=8000)
    snr: float = 30

    @property
    def voice(self) -> Voice:
        """See :attr:`advgan.attacks.contract.Attack.voice`."""
        return "target"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        speaker = butter(2, [self.low, self.high], "bandpass", fs=SAMPLE_RATE, output="sos")
        played = sosfilt(speaker, self.known(target)).astype(np.float32)
        recorded = reverberate(played, simulated_room(guard.rng))
        noise = coloured_noise(len(recorded), guard.rng)
        return _within(add_noise(recorded, noise, self.snr))


class Codec(Physical):
    """A recording through a codec: ``opus``, ``vorbis``, ``mp3``, ``gsm`` or ``mulaw``.

    Of the source it asks whether damage lets a stranger in, of the target whether a stolen
    recording survives it.
    """

    name: ClassVar[str] = "codec"
    codec: Literal["opus", "vorbis", "mp3", "gsm", "mulaw"] = "opus"
    of: Of = "source"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return round_trip(source if self.of == "source" else self.known(target), self.codec)


class Telephone(Physical):
    """A recording down a telephone line, about 300 to 3,400 Hz."""

    name: ClassVar[str] = "telephone"
    of: Of = "target"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return _within(telephone(source if self.of == "source" else self.known(target), guard.rng))


class Noise(Physical):
    """A recording in coloured noise at ``snr`` dB; see :class:`Codec` for what ``of`` asks."""

    name: ClassVar[str] = "noise"
    snr: float = 10
    of: Of = "source"

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(snr=self.snr, target_seconds=self.seconds)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        clean = source if self.of == "source" else self.known(target)
        return _within(add_noise(clean, coloured_noise(len(clean), guard.rng), self.snr))


class Mimicry(Physical):
    """The source's words with the target's pitch, and resonances moved as pitch suggests."""

    name: ClassVar[str] = "mimicry"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        pitch = _pitch_change(source, self.known(target))
        formants = float(np.clip(pitch ** (1 / 3), 0.75, 1.35))  # throats differ less than pitch
        return _within(change_voice(source, pitch, formants, keep_pace=True))


class Splice(Physical):
    """Snippets of the target in another order, as a message put together from recordings.

    Attributes:
        snippet: length of each, in seconds.
    """

    name: ClassVar[str] = "splice"
    snippet: float = Field(default=0.4, gt=0.05, le=5)

    @property
    def voice(self) -> Voice:
        """See :attr:`advgan.attacks.contract.Attack.voice`."""
        return "target"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        known, size = self.known(target), int(self.snippet * SAMPLE_RATE)
        pieces = [known[start : start + size] for start in range(0, len(known), size)]
        fade = min(160, min(map(len, pieces)) // 2)  # 10 ms, against clicks
        ramp = np.ones(size, np.float32)
        ramp[:fade] = np.linspace(0, 1, fade, dtype=np.float32)
        rounds = int(np.ceil(len(source) / max(len(known), 1)))
        order = np.concatenate([guard.rng.permutation(len(pieces)) for _ in range(rounds)])
        faded = [p * ramp[: len(p)] * ramp[: len(p)][::-1] for p in (pieces[i] for i in order)]
        return np.concatenate(faded)[: max(len(source), size)]


class Synthesiser(Physical):
    """An offline speech synthesiser, moved to the target's pitch: fake speech of no effort."""

    name: ClassVar[str] = "synthesiser"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        voices = _voices()
        spoken = voices[int(guard.rng.integers(len(voices)))][: max(len(source), SAMPLE_RATE * 2)]
        pitch = _pitch_change(spoken, self.known(target))
        formants = float(np.clip(pitch ** (1 / 3), 0.8, 1.25))
        return _within(change_voice(spoken, pitch, formants, keep_pace=True))


def _voices() -> list[Waveform]:
    """One utterance of each demo voice; made once a process."""
    import tempfile
    from pathlib import Path

    from speakerguard.sound.audio import read
    from speakerguard.sound.espeak import VOICES, synthesise

    if not _SPOKEN:
        with tempfile.TemporaryDirectory() as folder:
            try:
                paths = synthesise(Path(folder), speakers=len(VOICES), utterances=1)
            except UsageError as error:
                raise NotRunError(str(error)) from None
            _SPOKEN.extend(read(path) for path in paths)
    return _SPOKEN


_SPOKEN: list[Waveform] = []


def _pitch_change(waveform: Waveform, target: Waveform) -> float:
    """How much the pitch is to move: as far as it can, and not at all where one is not known."""
    return float(np.clip(pitch_ratio(waveform, target) or 1.0, LEAST_RATIO, MOST_RATIO))


def _within(waveform: Waveform) -> Waveform:
    """``waveform``, made quieter if it would be clipped."""
    return waveform / np.float32(max(1.0, float(np.abs(waveform).max()) / 0.999))
