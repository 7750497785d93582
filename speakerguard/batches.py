"""What a training step sees: balanced batches of distorted voices, and the teacher's view."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from speakerguard.audio import SAMPLE_RATE, Waveform
from speakerguard.augment import Augmenter, NoiseBank
from speakerguard.config import TrainConfig
from speakerguard.data import SpeechSet, default_workers, prepare
from speakerguard.teacher import at_speed, teach

Batch = tuple[Tensor, Tensor, Tensor]  # waveforms (B, n), labels (B,), teacher (B, D) or (B, 0)
Report = Callable[[str], None]


class BatchSampler(Dataset[Batch]):
    """Batch number ``step`` of a run, made on demand.

    A voice is a speaker at one speed. Every batch draws voices evenly, whatever their amount of
    speech, and ``clips`` crops of each; the rest of the batch is unlabelled speech.
    """

    def __init__(self, config: TrainConfig, rank: int = 0, report: Report = print) -> None:
        data, self.config, self.rank = config.data, config, rank
        workers = default_workers()
        self.labelled = prepare(data.train, data.cache, True, workers, _every(report, data.train))
        self.sets = [self.labelled]
        if data.unlabelled and config.unlabelled_share:
            notice = _every(report, data.unlabelled)
            self.sets.append(prepare(data.unlabelled, data.cache, False, workers, notice))
        for speech in self.sets:
            for name, reason in speech.skipped[:1]:
                report(f"{len(speech.skipped)} recordings left out; the first, {name}: {reason}")
        names = sorted({speaker for speaker in self.labelled.speakers if speaker})
        self.speakers = {name: number for number, name in enumerate(names)}
        self.segments: list[list[int]] = [[] for _ in names]
        for index, speaker in enumerate(self.labelled.speakers):
            self.segments[self.speakers[str(speaker)]].append(index)
        self.targets = _targets(self.sets, data.speeds, report) if config.loss.teacher else None
        bank = NoiseBank.load(data.augment) if data.augment else NoiseBank((), ())
        self.augmenter = Augmenter(bank, self._any_voice)

    @property
    def voices(self) -> int:
        """Number of classes: speakers times speeds."""
        return len(self.speakers) * len(self.config.data.speeds)

    def prototypes(self) -> Tensor | None:
        """The teacher's mean view of each voice, unit vectors (voices, D); None without one."""
        if self.targets is None:
            return None
        speeds = range(len(self.config.data.speeds))
        means = [self.targets[0][v, i].mean(axis=0) for i in self.segments for v in speeds]
        return nn.functional.normalize(torch.from_numpy(np.stack(means)).float(), dim=1)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        config = self.config
        rng = np.random.default_rng([config.seed, self.rank, step])
        strength = config.augmentation * min(1.0, step / (config.ramp * config.steps))
        count = round(rng.uniform(*config.crop_seconds) * 10) * SAMPLE_RATE // 10  # fast for FFTs
        rows: list[tuple[int, int, int, int]] = []  # set, segment, speed, label
        speeds = len(config.data.speeds)
        for voice in rng.choice(self.voices, min(config.voices, self.voices), replace=False):
            speaker, speed = divmod(int(voice), speeds)
            segments = self.segments[speaker]
            for index in rng.choice(segments, config.clips, replace=len(segments) < config.clips):
                rows.append((0, int(index), speed, int(voice)))
        if len(self.sets) > 1:
            share = config.unlabelled_share
            for _ in range(round(len(rows) * share / (1 - share))):
                index = int(rng.integers(len(self.sets[1])))
                rows.append((1, index, int(rng.integers(speeds)), -1))
        waveforms = [self._clip(row, count, strength, rng) for row in rows]
        labels = torch.tensor([row[3] for row in rows])
        teacher = np.zeros((len(rows), 0), np.float32)
        if self.targets is not None:
            teacher = np.stack([self.targets[s][v, i] for s, i, v, _ in rows]).astype(np.float32)
        return torch.from_numpy(np.stack(waveforms)), labels, torch.from_numpy(teacher)

    def _clip(
        self, row: tuple[int, int, int, int], count: int, strength: float, rng: np.random.Generator
    ) -> Waveform:
        speed = self.config.data.speeds[row[2]]
        segment = self.sets[row[0]].segment(row[1])
        clip = at_speed(_crop(segment, int(count * speed) + 16, rng), speed)
        return self.augmenter(np.resize(clip, count), strength, rng)

    def _any_voice(self, count: int, rng: np.random.Generator) -> Waveform:
        segment = self.labelled.segment(int(rng.integers(len(self.labelled))))
        return _crop(segment, count, rng)[:count]


def _crop(segment: Waveform, count: int, rng: np.random.Generator) -> Waveform:
    """A random stretch of ``count`` samples; a shorter segment is repeated."""
    if len(segment) < count:
        return np.resize(segment, count)
    start = int(rng.integers(len(segment) - count + 1))
    return segment[start : start + count]


def _targets(
    sets: list[SpeechSet], speeds: tuple[float, ...], report: Report
) -> list[npt.NDArray[np.float16]]:
    """Teacher embeddings (speeds, segments, D) of each set, freed of their common mean."""
    raw = []
    for speech in sets:
        layers = []
        for speed in speeds:
            layers.append(teach(speech, speed, _every(report, f"teacher at speed {speed:g}")))
        raw.append(np.stack(layers))
    mean = raw[0].astype(np.float32).mean(axis=(0, 1))
    centred = [layer.astype(np.float32) - mean for layer in raw]
    return [(c / np.linalg.norm(c, axis=2, keepdims=True)).astype(np.float16) for c in centred]


def _every(report: Report, what: object) -> Callable[[int, int], None]:
    """A progress callback that reports each tenth of the work."""
    started, last = time.monotonic(), 0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done * 10 // total > last:
            last = done * 10 // total
            seconds = time.monotonic() - started
            left = seconds * (total - done) / done / 60
            report(f"{what}: {done}/{total}, {left:.0f} min left")

    return progress
