"""The speech in a recording, and how much of it there is: no speech means no score.

Silero VAD says where speech is; see :mod:`speakerguard.sound.silero`. What is farther from speech
than :data:`PAD` frames is cut away before any model listens. What lies nearer sounds of the voice
and its room as well, and verifiers that do not get it make more errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speakerguard.errors import NoSpeechError, SilentAudioError
from speakerguard.sound.audio import (
    SAMPLE_RATE,
    AudioSource,
    Recording,
    Waveform,
    open_recording,
)
from speakerguard.sound.silero import FRAME as FRAME
from speakerguard.sound.silero import SpeechDetector as SpeechDetector

THRESHOLD = 0.5  # speech probability of a speech frame
PAD = 12  # frames kept on either side of speech, 0.38 s; pauses of twice that stay whole
TIGHT = 2  # so many for what is to be speech alone: onsets survive, pauses do not
MIN_SPEECH = 0.5  # seconds of net speech below which there is no score
MAX_SPEECH = 120.0  # seconds of net speech after which reading stops
MAX_SECONDS = 600.0  # of a recording that are searched for speech, as of a stream
MAX_VALUES = 60_000_000  # samples over all channels that are searched: as long, of two at 48 kHz
SILENT_PEAK = 10 ** (-70 / 20)  # a recording that never exceeds -70 dBFS is silent
_LEVEL = 10 ** (-26 / 20)  # RMS to which a quiet block is raised for the detector, at most 30 dB


Frames = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Caution:
    """Something about a recording that lowers trust in its score: a code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Speech:
    """The speech of one recording.

    Attributes:
        name: what to call the recording in messages.
        samples: float32 (n,), 16 kHz, in [-1, 1], with what is not speech cut away.
        kept: bool (frames,), which frames of :data:`.silero.FRAME` samples of the recording they
            are; its last frame is filled up with silence.
        spoken: bool (frames,), which of them hold speech.
        net_seconds: seconds of speech in it, padding not counted.
        total_seconds: seconds of the recording that were read.
        warnings: what lowers trust in it.
    """

    name: str
    samples: Waveform
    kept: Frames
    spoken: Frames
    net_seconds: float
    total_seconds: float
    warnings: tuple[Caution, ...] = ()

    def within(self, pad: int) -> Waveform:
        """The samples no farther than ``pad`` frames from speech, float32 (n,); at most PAD."""
        if pad >= PAD:
            return self.samples
        return _cut(self.samples, widened(self.spoken, pad)[self.kept])

    def first(self, seconds: float) -> Speech:
        """What was recorded until so many seconds of speech were."""
        spoken = np.cumsum(self.spoken) * FRAME / SAMPLE_RATE
        until = np.arange(len(spoken)) <= np.searchsorted(spoken, seconds - 1e-9)
        return replace(
            self,
            samples=_cut(self.samples, until[self.kept]),
            kept=self.kept & until,
            spoken=self.spoken & until,
            net_seconds=min(self.net_seconds, float(spoken[until][-1])),
        )


def load_speech(
    source: AudioSource | Recording, min_seconds: float = MIN_SPEECH, channel: int | None = None
) -> Speech:
    """Read ``source`` and keep its speech.

    Reading stops after :data:`MAX_SPEECH` seconds of speech, or :data:`MAX_SECONDS` altogether or
    :data:`MAX_VALUES` samples over all channels, with a warning, so a
    recording of any length takes bounded memory and time.

    Args:
        source: as for :func:`speakerguard.sound.audio.open_recording`, or what that gave.
        min_seconds: least net speech for a score, in seconds.
        channel: the only one to listen to, from 1; None averages all.

    Raises:
        AudioError: one of its kinds, when the recording cannot be judged.
    """
    recording = source if isinstance(source, Recording) else open_recording(source, channel)
    detector = SpeechDetector()
    blocks: list[Waveform] = []
    found: list[Frames] = []
    net = 0.0
    cut_short = None
    for block in _in_frames(recording.blocks()):
        if net >= MAX_SPEECH and len(block) >= SAMPLE_RATE:  # less is not worth stopping for
            cut_short = f"{MAX_SPEECH:.0f} s of speech was not read; so much is enough."
            break
        if recording.seconds > MAX_SECONDS:
            cut_short = f"{MAX_SECONDS / 60:.0f} min was not read."
            break
        if recording.decoded > MAX_VALUES:
            cut_short = f"{recording.seconds:.0f} s was not read."
            break
        found.append(detector.probabilities(_level(block)) >= THRESHOLD)
        blocks.append(block)
        net += float(found[-1].sum()) * FRAME / SAMPLE_RATE
    _require_speech(recording, net, min_seconds, cut_short)
    spoken = np.concatenate(found)
    kept = widened(spoken, PAD)
    parts = np.split(kept, np.cumsum([len(part) for part in found])[:-1])
    samples = np.concatenate([_cut(*both) for both in zip(blocks, parts, strict=True)])
    warnings = _warnings(recording, samples, cut_short)
    return Speech(recording.name, samples, kept, spoken, net, recording.seconds, tuple(warnings))


def widened(spoken: Frames, pad: int) -> Frames:
    """Frames (n,) that lie no farther than ``pad`` from one of ``spoken`` (n,)."""
    near: Frames = np.convolve(spoken, np.ones(2 * pad + 1))[pad : pad + len(spoken)] > 0.5
    return near


def _cut(samples: Waveform, frames: Frames) -> Waveform:
    return samples.reshape(-1, FRAME)[frames].reshape(-1)


def _in_frames(blocks: Iterable[Waveform]) -> Iterable[Waveform]:
    """Re-cut blocks to whole frames; the end of the recording is zero-padded to one."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // FRAME * FRAME
        if whole:
            yield rest[:whole]
            rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME - len(rest)))


def _level(block: Waveform) -> Waveform:
    rms = float(np.sqrt(np.mean(np.square(block, dtype=np.float64))))
    gain = min(max(_LEVEL / max(rms, 1e-9), 1.0), 10 ** (30 / 20))
    levelled: Waveform = np.clip(block * np.float32(gain), -1.0, 1.0)
    return levelled


def _require_speech(
    recording: Recording, net: float, min_seconds: float, cut_short: str | None
) -> None:
    name = recording.name
    unread = f" The part after {cut_short}" if cut_short else ""
    if recording.swing < SILENT_PEAK:
        raise SilentAudioError(
            f"{name}: the recording is silent. Check that the microphone is on and not muted."
        )
    if net == 0:
        raise NoSpeechError(
            f"{name}: no speech found in {recording.seconds:.1f} s. Record someone speaking."
            f"{unread}"
        )
    if net < min_seconds:
        raise NoSpeechError(
            f"{name}: only {net:.2f} s of speech in {recording.seconds:.1f} s; at least "
            f"{min_seconds} s are needed. Record a full sentence.{unread}"
        )


def _warnings(recording: Recording, samples: Waveform, cut_short: str | None) -> Iterable[Caution]:
    if recording.clipped > 1e-3 * recording.samples:
        share = 100 * recording.clipped / recording.samples
        yield Caution(
            "clipping", f"{share:.1f} % of the samples are clipped; lower the recording level."
        )
    if recording.rate < SAMPLE_RATE:
        yield Caution(
            "telephone-band",
            f"recorded at {recording.rate} Hz; the model expects {SAMPLE_RATE} Hz, so the score "
            "is less certain.",
        )
    elif _upper_band(samples) < 1e-5:
        yield Caution(
            "telephone-band",
            "nothing above 4 kHz, as from a telephone line; the score is less certain.",
        )
    for code, message in recording.notes.items():
        yield Caution(code, message)
    if cut_short:
        yield Caution("long-recording", f"the part after {cut_short}")


def _upper_band(samples: Waveform) -> float:
    """Share of the energy that lies above 4.2 kHz."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1))).sum(axis=0)
    cut = round(4_200 * FRAME / SAMPLE_RATE)
    return float(power[cut:].sum() / max(power.sum(), 1e-30))
