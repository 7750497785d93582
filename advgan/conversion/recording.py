"""A recording to convert, or to convert to: read, cut into pieces, and joined again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from advgan.networks.mel import MIN_FRAMES, STANDARD
from speakerguard.errors import AudioError, NoSpeechError, SilentAudioError
from speakerguard.sound.audio import (
    SAMPLE_RATE,
    AudioSource,
    Recording,
    Waveform,
    open_recording,
)
from speakerguard.sound.speech import TIGHT, Speech, load_speech

PEAK = 0.99  # louder conversions are turned down
PIECE_SECONDS = 30.0  # converted at once
FADE_SECONDS = 0.25  # by which pieces overlap


@dataclass(frozen=True, eq=False)
class Utterance:
    """A recording to convert, or to convert to.

    Attributes:
        name: what to call it.
        waveform: float32 (n,), 16 kHz.
    """

    name: str
    waveform: Waveform

    @property
    def rms(self) -> float:
        """Root mean square of the whole, full scale 1."""
        return float(np.sqrt(np.mean(np.square(self.waveform, dtype=np.float64))))


class Decoded:
    """A recording decoded once: all of it, and the speech in it.

    Attributes:
        waveform: float32 (n,), 16 kHz.
        speech: as the verifier finds it; None where that finds none.

    Raises:
        AudioError: it cannot be read.
    """

    def __init__(self, source: AudioSource) -> None:
        recording = _Kept(source)
        self.source, self.speech = source, _speech_in(recording)
        for _ in recording.blocks():  # what is left where so much speech was enough
            pass
        self.waveform: Waveform = np.concatenate(recording.kept)

    @property
    def probe(self) -> Speech | AudioSource:
        """What to judge: the speech, or where there is none the source, whose judge says so."""
        return self.source if self.speech is None else self.speech

    def utterance(self, speech_only: bool = False) -> Utterance:
        """The recording whole, or, of a target, its speech alone.

        Raises:
            AudioError: it is silent, holds no speech, or is too short.
        """
        speech = self.speech or load_speech(self.source)  # which says what is wrong
        waveform = speech.within(TIGHT) if speech_only else self.waveform
        seconds = len(waveform) / SAMPLE_RATE
        least = MIN_FRAMES * STANDARD.hop / STANDARD.sample_rate
        if seconds < least:
            raise AudioError(
                f"{speech.name}: only {seconds:.2f} s; at least {least:.2f} s are needed. Choose a "
                "longer recording."
            )
        return Utterance(speech.name, waveform)


class _Kept(Recording):
    """A recording that keeps its blocks, and goes on where a reader stopped."""

    def __init__(self, source: AudioSource) -> None:
        vars(self).update(vars(open_recording(source)))
        self.kept: list[Waveform] = []
        self._coming = super().blocks()

    def blocks(self) -> Iterator[Waveform]:
        """See the parent class."""
        for block in self._coming:
            self.kept.append(block)
            yield block


def _speech_in(recording: Recording) -> Speech | None:
    try:
        return load_speech(recording)
    except (NoSpeechError, SilentAudioError):
        return None


def load_utterance(source: AudioSource, speech_only: bool = False) -> Utterance:
    """A recording whole, or, of a target, its speech alone.

    Raises:
        AudioError: it cannot be read, is silent, holds no speech, or is too short.
    """
    return Decoded(source).utterance(speech_only)  # a conversion of no speech would be noise


def some_of(utterance: Utterance, seconds: float, rng: np.random.Generator) -> Utterance:
    """A random stretch of a recording; all where it is no longer than ``seconds``."""
    count = round(seconds * SAMPLE_RATE)
    start = int(rng.integers(max(0, len(utterance.waveform) - count) + 1))
    return Utterance(utterance.name, utterance.waveform[start : start + count])


def cut_to_pieces(utterance: Utterance) -> list[Utterance]:
    """Equal pieces of at most :data:`PIECE_SECONDS`, which overlap by :data:`FADE_SECONDS`."""
    waveform, fade = utterance.waveform, round(FADE_SECONDS * SAMPLE_RATE)
    count = max(1, -(-(len(waveform) - fade) // round(PIECE_SECONDS * SAMPLE_RATE)))
    edges = np.linspace(0, len(waveform) - fade, count + 1).astype(int)
    return [
        Utterance(utterance.name, waveform[start : end + fade])
        for start, end in itertools.pairwise(edges.tolist())
    ]


def in_step(converted: Sequence[Waveform], pieces: Sequence[Utterance], rate: int) -> Waveform:
    """Conversions of ``pieces``, joined as they lie: a vocoder's may lack a part of a frame."""
    counts = [round(len(piece.waveform) * rate / SAMPLE_RATE) for piece in pieces[:-1]]
    whole = [
        np.pad(w[:n], (0, max(0, n - len(w)))) for w, n in zip(converted, counts, strict=False)
    ]
    return joined([*whole, converted[-1]], round(FADE_SECONDS * rate))


def joined(pieces: Sequence[Waveform], fade: int) -> Waveform:
    """Waveforms one after another, each fading into the next over ``fade`` samples: (n,).

    >>> joined([np.ones(6, np.float32), np.ones(5, np.float32)], 3).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    whole = pieces[0]
    rise = np.linspace(0, 1, fade + 2, dtype=np.float32)[1:-1]
    parts = [whole]
    for piece in pieces[1:]:
        end = parts[-1][-fade:] * (1 - rise) + piece[:fade] * rise
        parts[-1] = parts[-1][:-fade]
        parts += [end, piece[fade:]]
    return np.concatenate(parts).astype(np.float32)


def limited(waveform: Waveform) -> Waveform:
    """``waveform`` (n,), turned down where it would not fit a file."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return np.asarray(waveform * min(1.0, PEAK / max(peak, 1e-9)), np.float32)
