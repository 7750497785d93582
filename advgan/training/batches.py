"""What the attacker's training hears: random crops of prepared speech, and pairs of dev."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from advgan.networks.mel import STANDARD, levelled
from advgan.pairs import read_pairs
from advgan.training.config import AttackerRunConfig
from speakerguard.progress import Tell
from speakerguard.sound import audio
from speakerguard.sound.corpus import spread
from speakerguard.sound.speech import TIGHT, load_speech
from speakerguard.sound.voice import at_speed, invent_voice
from speakerguard.training.data import SpeechSet, default_workers, prepare, stretch

UNIT = 320  # samples at 16 kHz that are 441 at 22.05 kHz
LONGEST = 2  # crops' worth of a segment that an invented voice says, to cut the crop from


def crop_samples(frames: int) -> int:
    """Samples at 16 kHz that give at least so many mel frames, in whole :data:`UNIT`."""
    seconds = (frames - 1) * STANDARD.hop / STANDARD.sample_rate
    return -(-round(seconds * audio.SAMPLE_RATE) // UNIT) * UNIT


class Crops:
    """Random crops of everything that may be heard in training, all at one level, 16 kHz."""

    def __init__(self, config: AttackerRunConfig, report: Tell = print) -> None:
        data, workers = config.data, default_workers()
        self.labelled = prepare(data.train, data.cache, True, workers, pad=TIGHT)
        self.sets = [self.labelled]
        if data.unlabelled:
            self.sets.append(prepare(data.unlabelled, data.cache, False, workers, pad=TIGHT))
        for speech in self.sets:
            for name, reason in speech.skipped[:1]:
                report(f"{len(speech.skipped)} recordings left out; the first, {name}: {reason}")
        self.seed, self.count = config.seed, crop_samples(config.frames)
        self.segments: dict[str, list[int]] = defaultdict(list)
        for index, speaker in enumerate(self.labelled.speakers):
            self.segments[str(speaker)].append(index)
        self.speakers = sorted(name for name in self.segments if len(self.segments[name]) > 1)

    def rng(self, step: int) -> np.random.Generator:
        """The source of all randomness of a step."""
        return np.random.default_rng([self.seed, step])

    def draw(self, count: int, rng: np.random.Generator, invented: float = 0.0) -> Tensor:
        """Crops of any voices: (count, samples); a share ``invented`` in voices nobody has."""
        sizes = np.array([len(speech) for speech in self.sets])
        rows = rng.integers(sizes.sum(), size=count)
        others = _others(count, rng, invented)
        return torch.stack(
            [
                self.crop(*self._locate(int(row)), rng, other=other)
                for row, other in zip(rows, others, strict=True)
            ]
        )

    def draw_targets(
        self,
        count: int,
        rng: np.random.Generator,
        seconds: float = 0.0,
        speeds: tuple[float, float] = (1.0, 1.0),
        invented: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Two crops of each of ``count`` labelled speakers, of different segments.

        Args:
            seconds: length, where longer than a crop of :meth:`draw`.
            speeds: slowest and fastest that a speaker is played at, which makes other voices.
            invented: share of speakers who are turned into somebody who does not exist, the same
                one in both crops.

        Returns:
            The voice to convert to, and what to judge the result against; (count, samples) each.
        """
        names = rng.choice(self.speakers, count, replace=len(self.speakers) < count)
        pairs = [rng.choice(self.segments[name], 2, replace=False) for name in names]
        played = [1.0 if speeds == (1.0, 1.0) else rng.uniform(*speeds) for _ in names]
        others = _others(count, rng, invented)
        length = max(self.count, round(seconds * audio.SAMPLE_RATE) // UNIT * UNIT)
        first, second = (
            torch.stack(
                [
                    self.crop(self.labelled, int(pair[i]), rng, length, speed, other)
                    for pair, speed, other in zip(pairs, played, others, strict=True)
                ]
            )
            for i in range(2)
        )
        return first, second

    def _locate(self, row: int) -> tuple[SpeechSet, int]:
        for speech in self.sets:
            if row < len(speech):
                return speech, row
            row -= len(speech)
        raise IndexError(row)

    def crop(
        self,
        speech: SpeechSet,
        index: int,
        rng: np.random.Generator,
        count: int | None = None,
        speed: float = 1.0,
        other: int | None = None,
    ) -> Tensor:
        """A random stretch of a segment, at the usual level: (samples,); a short one repeats.

        Args:
            speed: that it is played at.
            other: seed of the invented voice that says it instead.
        """
        count = count or self.count
        segment = at_speed(speech.segment(index), speed)
        if other is None:
            return torch.from_numpy(levelled(stretch(segment, count, rng)))
        segment = stretch(segment, min(len(segment), LONGEST * count), rng)
        said = invent_voice(segment, np.random.default_rng(other))
        return torch.from_numpy(levelled(stretch(said, count, rng)))


def _others(count: int, rng: np.random.Generator, share: float) -> list[int | None]:
    """Seeds of invented voices for a share of ``count``; None for those who stay themselves."""
    if not share:
        return [None] * count
    return [int(seed) if rng.random() < share else None for seed in rng.integers(2**32, size=count)]


@dataclass(frozen=True, eq=False)
class DevPair:
    """One pair of dev: speech of each recording, float32 (n,), 16 kHz, at one level."""

    source: Tensor
    target: Tensor
    enrol: Tensor


def load_dev(config: AttackerRunConfig) -> list[DevPair]:
    """Pairs of dev to choose weights by; speech alone, whole :data:`UNIT`, of at most 6 s."""
    pairs = spread(read_pairs(config.data.dev_pairs, config.data.dev), config.dev_size)
    clips: dict[str, Tensor] = {}

    def clip_of(name: str) -> Tensor:
        if name not in clips:
            speech = load_speech(config.data.dev / name).within(TIGHT)
            samples = speech[: 6 * audio.SAMPLE_RATE]
            clips[name] = torch.from_numpy(levelled(samples[: len(samples) // UNIT * UNIT]))
        return clips[name]

    return [DevPair(clip_of(p.source), clip_of(p.target), clip_of(p.enrol[0])) for p in pairs]
