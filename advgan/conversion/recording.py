"""A recording to convert, or to convert to: read, cut into pieces, and joined again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advgan.networks.mel import MIN_FRAMES, STANDARD
from speakerguard.errors import AudioError
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource, Waveform, read
from speakerguard.sound.speech import load_speech

PEAK = 0.99  # louder conversions are turned down
PIECE_SECONDS = 30.0  # converted at once
FADE_SECONDS = 0.25  # by which pieces overlap


@dataclass(frozen=True, eq=False)
class Heard:
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


def hear(source: AudioSource, speech_only: bool = False) -> Heard:
    """Read a recording whole, or, of a target, its speech alone.

    Raises:
        AudioError: it cannot be read, is silent, holds no speech, or is too short.
    """
    speech = load_speech(source)  # a conversion of what is no speech would be noise
    waveform = speech.samples if speech_only else read(source)
    seconds, least = len(waveform) / SAMPLE_RATE, MIN_FRAMES * STANDARD.hop / STANDARD.sample_rate
    if seconds < least:
        raise AudioError(
            f"{speech.name}: only {seconds:.2f} s; at least {least:.2f} s are needed. Choose a "
            "longer recording."
        )
    return Heard(speech.name, waveform)


def some_of(heard: Heard, seconds: float, rng: np.random.Generator) -> Heard:
    """A random stretch of a recording; all where it is no longer than ``seconds``."""
    count = round(seconds * SAMPLE_RATE)
    start = int(rng.integers(max(0, len(heard.waveform) - count) + 1))
    return Heard(heard.name, heard.waveform[start : start + count])


def cut_to_pieces(heard: Heard) -> list[Heard]:
    """Equal pieces of at most :data:`PIECE_SECONDS`, which overlap by :data:`FADE_SECONDS`."""
    waveform, fade = heard.waveform, round(FADE_SECONDS * SAMPLE_RATE)
    count = max(1, -(-(len(waveform) - fade) // round(PIECE_SECONDS * SAMPLE_RATE)))
    edges = np.linspace(0, len(waveform) - fade, count + 1).astype(int)
    return [
        Heard(heard.name, waveform[start : end + fade])
        for start, end in itertools.pairwise(edges.tolist())
    ]


def in_step(made: Sequence[Waveform], pieces: Sequence[Heard], rate: int) -> Waveform:
    """What was made of ``pieces``, joined as they lie: a vocoder's may lack a part of a frame."""
    counts = [round(len(piece.waveform) * rate / SAMPLE_RATE) for piece in pieces[:-1]]
    whole = [np.pad(w[:n], (0, max(0, n - len(w)))) for w, n in zip(made, counts, strict=False)]
    return joined([*whole, made[-1]], round(FADE_SECONDS * rate))


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
