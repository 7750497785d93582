"""What a training step sees: balanced batches of distorted voices, and the teacher's view."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from speakerguard.errors import UsageError
from speakerguard.progress import Tell, each_tenth
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import Augmenter, NoiseBank
from speakerguard.sound.voice import at_speed
from speakerguard.training.config import TrainConfig
from speakerguard.training.data import SpeechSet, default_workers, prepare, stretch
from speakerguard.training.hardening import MANIFEST, read_conversions
from speakerguard.training.teacher import teach

Place = tuple[int, int]  # a set of speech, a segment in it


class Batch(NamedTuple):
    """What a training step sees: B clips of voices and A conversions.

    Attributes:
        waveforms: (B + 2A, n): the voices, the conversions, a clip of each conversion's target.
        labels: voices (B,), -1 where unknown.
        teacher: what the teacher hears in the voices (B, D), or (B, 0) without one.
        sources: what the teacher hears in the sources of the conversions (A, D) or (A, 0).
    """

    waveforms: Tensor
    labels: Tensor
    teacher: Tensor
    sources: Tensor


class Imitation(NamedTuple):
    """A segment of a conversion, and the segments of its source and of its target."""

    converted: Place
    source: list[Place]
    target: list[Place]


class BatchSampler(Dataset[Batch]):
    """Batch number ``step`` of a run, made on demand.

    A voice is a speaker at one speed. Every batch draws voices evenly, whatever their amount of
    speech, and ``clips`` crops of each; the rest of the batch is unlabelled speech. Conversions
    come beside them.
    """

    def __init__(self, config: TrainConfig, rank: int = 0, report: Tell = print) -> None:
        data, self.config, self.rank, self.report = config.data, config, rank, report
        self.sets = [self._prepare(folder) for folder in data.folders]
        places = [(s, i) for s, speech in enumerate(self.sets) for i in range(len(speech))]
        named = [(s, str(self.sets[s].speakers[i])) for s, i in places]
        self.labelled = places
        self.speakers = {name: number for number, name in enumerate(sorted(set(named)))}
        self.segments: list[list[Place]] = [[] for _ in self.speakers]
        for place, name in zip(places, named, strict=True):
            self.segments[self.speakers[name]].append(place)
        self.unlabelled: int | None = None
        if data.unlabelled and config.unlabelled_share:
            self.unlabelled = len(self.sets)
            self.sets.append(self._prepare(data.unlabelled, labelled=False))
        taught = [*self.sets]
        self.imitations = self._imitations()
        self.targets = None
        if config.loss.teacher:
            if config.attacks and config.attacks.keep_source:
                taught = self.sets[: self.imitations[0].converted[0]]  # and the corpus
            self.targets = _targets(taught, data.speeds, report)
        bank = NoiseBank.load(data.augment) if data.augment else NoiseBank((), ())
        self.augmenter = Augmenter(bank, self._any_voice)

    def _prepare(self, folder: Path, labelled: bool = True) -> SpeechSet:
        notice = each_tenth(self.report, folder)
        speech = prepare(folder, self.config.data.cache, labelled, default_workers(), notice)
        for name, reason in speech.skipped[:1]:
            self.report(f"{len(speech.skipped)} recordings left out; the first, {name}: {reason}")
        return speech

    def _imitations(self) -> list[Imitation]:
        """What can be used of the conversions; their speech becomes further sets."""
        attacks, data = self.config.attacks, self.config.data
        if not (attacks and attacks.made):
            return []
        listed = {folder: read_conversions(folder) for folder in attacks.made}
        corpus = attacks.corpus or data.folders[0]
        if corpus in data.folders:
            number = data.folders.index(corpus)
        else:
            number = len(self.sets)
            self.sets.append(self._prepare(corpus))
        spoken = _by_utterance(number, self.sets[number])
        silent = {name for name, _ in self.sets[number].skipped}
        found, dropped = [], 0
        for folder, conversions in listed.items():
            spoofs = _by_utterance(len(self.sets), speech := self._prepare(folder, labelled=False))
            self.sets.append(speech)
            for one in conversions:
                for name in (one.source, one.target):
                    if name not in spoken and name not in silent:
                        raise UsageError(
                            f"{folder / MANIFEST}, line {one.line}: {name} is not in {corpus}. "
                            "Set attacks.corpus to the folder that the conversions were made from."
                        )
                source, target = spoken.get(one.source, []), spoken.get(one.target, [])
                if not (source and target and one.output in spoofs):
                    dropped += 1
                    continue
                found += [Imitation(place, source, target) for place in spoofs[one.output]]
        if not found:
            raise UsageError(f"{attacks.made[0]}: no conversion in it holds usable speech.")
        self.report(f"{len(found)} segments of conversions; {dropped} conversions left out")
        return found

    @property
    def voices(self) -> int:
        """Number of classes: speakers times speeds."""
        return len(self.speakers) * len(self.config.data.speeds)

    def prototypes(self) -> Tensor | None:
        """The teacher's mean view of each voice, unit vectors (voices, D); None without one."""
        if self.targets is None:
            return None
        means = [
            np.mean([self.targets[s][speed, i] for s, i in places], axis=0)
            for places in self.segments
            for speed in range(len(self.config.data.speeds))
        ]
        return nn.functional.normalize(torch.from_numpy(np.stack(means)).float(), dim=1)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        config = self.config
        rng = np.random.default_rng([config.seed, self.rank, step])
        strength = config.augmentation * min(1.0, step / (config.ramp * config.steps))
        count = round(rng.uniform(*config.crop_seconds) * 10) * SAMPLE_RATE // 10  # fast for FFTs
        rows: list[tuple[Place, int, int]] = []  # segment, speed, label
        speeds = config.data.speeds
        for voice in rng.choice(self.voices, min(config.voices, self.voices), replace=False):
            speaker, speed = divmod(int(voice), len(speeds))
            places = self.segments[speaker]
            for pick in rng.choice(len(places), config.clips, replace=len(places) < config.clips):
                rows.append((places[pick], speed, int(voice)))
        if self.unlabelled is not None:
            share = config.unlabelled_share
            for _ in range(round(len(rows) * share / (1 - share))):
                index = int(rng.integers(len(self.sets[self.unlabelled])))
                rows.append(((self.unlabelled, index), int(rng.integers(len(speeds))), -1))
        crops = [(place, speeds[speed]) for place, speed, _ in rows]
        drawn = self._draw_imitations(rng)
        crops += [(one.converted, 1.0) for one in drawn]
        crops += [(_any(one.target, rng), 1.0) for one in drawn]
        waveforms = [self._clip(place, speed, count, strength, rng) for place, speed in crops]
        teacher, sources = (np.zeros((n, 0), np.float32) for n in (len(rows), len(drawn)))
        if self.targets is not None:
            teacher = np.stack([self.targets[s][v, i] for (s, i), v, _ in rows])
            if drawn and config.attacks and config.attacks.keep_source:
                places = [_any(one.source, rng) for one in drawn]
                sources = np.stack([self.targets[s][speeds.index(1), i] for s, i in places])
        return Batch(
            torch.from_numpy(np.stack(waveforms)),
            torch.tensor([label for _, _, label in rows]),
            torch.from_numpy(teacher.astype(np.float32)),
            torch.from_numpy(sources.astype(np.float32)),
        )

    def _draw_imitations(self, rng: np.random.Generator) -> list[Imitation]:
        if not (self.imitations and self.config.attacks):
            return []
        count, there = self.config.attacks.conversions, len(self.imitations)
        return [self.imitations[i] for i in rng.choice(there, count, replace=there < count)]

    def _clip(
        self, place: Place, speed: float, count: int, strength: float, rng: np.random.Generator
    ) -> Waveform:
        segment = self.sets[place[0]].segment(place[1])
        clip = at_speed(stretch(segment, int(count * speed) + 16, rng), speed)
        return self.augmenter(np.resize(clip, count), strength, rng)

    def _any_voice(self, count: int, rng: np.random.Generator) -> Waveform:
        number, index = _any(self.labelled, rng)
        return stretch(self.sets[number].segment(index), count, rng)[:count]


def _any(places: list[Place], rng: np.random.Generator) -> Place:
    return places[int(rng.integers(len(places)))]


def _by_utterance(number: int, speech: SpeechSet) -> dict[str, list[Place]]:
    """The segments of each recording of set ``number``."""
    places: dict[str, list[Place]] = {}
    for index, name in enumerate(speech.utterances):
        places.setdefault(name, []).append((number, index))
    return places


def _targets(
    sets: list[SpeechSet], speeds: tuple[float, ...], report: Tell
) -> list[npt.NDArray[np.float16]]:
    """Teacher embeddings (speeds, segments, D) of each set, freed of their common mean."""
    raw = []
    for speech in sets:
        layers = []
        for speed in speeds:
            layers.append(teach(speech, speed, each_tenth(report, f"teacher at speed {speed:g}")))
        raw.append(np.stack(layers))
    mean = raw[0].astype(np.float32).mean(axis=(0, 1))
    centred = [layer.astype(np.float32) - mean for layer in raw]
    return [(c / np.linalg.norm(c, axis=2, keepdims=True)).astype(np.float16) for c in centred]
