"""What a student hears of its teacher, crop by crop, frame by frame and layer by layer.

A teacher is a function, and the student learns it as one: both hear the same crop, however it was
changed, and the student must say what the teacher says of *that* crop (Beyer et al. 2022, "a good
teacher is patient and consistent", arXiv 2106.05237). Of the whole of it that is an embedding,
and in every frame the values of the teacher's last layer and of two earlier ones ("hints", Romero
et al. 2015, arXiv 1412.6550). Frames hold words as well as voices, of which a corpus has many more
than speakers; and early layers hold how a voice sounds rather than whose it is. So they teach
what carries over to voices that nobody has heard.

Half of the crops are stretches of recordings, the others were changed in pace, pitch and formants.
Half of the recordings stay as they are; all the rest met other talkers, a microphone's response,
rooms and noise. They are made once and lie in files with the teacher's answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from speakerguard.embedders.wheels import CAMPPLUS_DIMENSION
from speakerguard.errors import UsageError
from speakerguard.files import replace_file
from speakerguard.progress import Tell, each_tenth
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import Augmenter, NoiseBank, add_noise, equalise
from speakerguard.sound.voice import at_speed, invent_voice, mix_voices
from speakerguard.training.config import LessonConfig
from speakerguard.training.data import SpeechSet, contents, default_workers, prepare, stretch
from speakerguard.training.teacher import FRAME, HINTS, VALUES, Listener
from speakerguard.workers import begin_worker

FRAMES = 13  # of a crop: 2.08 s
CROP = FRAMES * FRAME
RECORDED = 4  # one crop of so many is as it was recorded
PEAK = 0.7
PACES = (0.7, 1.4)  # slowest and fastest
HIGHEST_PITCH = 1.6  # that a voice is played at to make another
TALKER, BABBLE = (0, 10), (0, 15)  # dB that another voice, or many, lie below
SHARES = (0.3, 0.75)  # of the second voice in a mixed one, at least and at most
LEAST_SPREAD = 0.05  # of a value of the teacher's; some hardly ever change
MOST = 10.0  # deviations that a value counts; those few move by hundreds when they do
_TOGETHER = 32  # crops that the teacher hears at once
_SOME = 4_000  # crops that means and deviations are taken of

Floats = npt.NDArray[np.float32]


class Lesson(NamedTuple):
    """A batch: crops (B, :data:`CROP`) and what the teacher says of them.

    Attributes:
        waveforms: (B, :data:`CROP`).
        embeddings: (B, 192), unit vectors once freed of the teacher's mean over recordings.
        frames: (B, :data:`FRAMES`, 512), each value with mean 0 and deviation 1 over
            recordings, at most :data:`MOST`.
        hints: (B, :data:`FRAMES`, 768), likewise.
    """

    waveforms: Tensor
    embeddings: Tensor
    frames: Tensor
    hints: Tensor


class Lessons(Dataset[Lesson]):
    """Lesson number ``step`` of a run, drawn from crops that are prepared once."""

    def __init__(self, config: LessonConfig, rank: int = 0, report: Tell = print) -> None:
        self.config, self.rank = config, rank
        data = config.data
        for folder in config.also:  # before hours of preparing
            if not folder.is_dir():
                raise UsageError(
                    f"{folder}: no such folder, but `also` names it. Make conversions with "
                    "`advgan-generate`, or leave it out: `also: []`."
                )
        self.sets = [_prepare(folder, data.cache, True, report) for folder in data.folders]
        further = (*((data.unlabelled,) if data.unlabelled else ()), *config.also)
        self.sets += [_prepare(folder, data.cache, False, report) for folder in further]
        self.places = [
            (number, index)
            for number, speech in enumerate(self.sets)
            for index in np.flatnonzero(speech.lengths >= CROP).tolist()
        ]
        if not self.places:
            seconds = CROP / SAMPLE_RATE
            raise UsageError(f"{data.folders[0]}: no stretch of speech lasts {seconds:.2f} s.")
        self.crops = LessonCrops.prepare(self, report)
        _, embeddings, *layers = (part[: _SOME * RECORDED : RECORDED] for part in self.crops.parts)
        self.mean = embeddings.astype(np.float32).mean(axis=0)
        self.scales = [_scale(values) for values in layers]

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Lesson:
        rng = np.random.default_rng([self.config.seed, self.rank, step])
        rows = rng.integers(len(self.crops), size=self.config.batch)
        crops, embeddings, *layers = self.crops.rows(rows)
        gains = 10 ** rng.uniform(-0.5, 0.3, (len(rows), 1)).astype(np.float32)
        return Lesson(
            torch.from_numpy(crops * gains),
            nn.functional.normalize(torch.from_numpy(embeddings - self.mean), dim=1),
            *(
                torch.from_numpy(np.clip((values - middle) / spread, -MOST, MOST))
                for values, (middle, spread) in zip(layers, self.scales, strict=True)
            ),
        )

    def recorded(self, rng: np.random.Generator) -> Waveform:
        """A random crop of a recording: float32 (:data:`CROP`,)."""
        return self._stretch(1.0, rng)[:CROP]

    def voice(self, rng: np.random.Generator) -> Waveform:
        """A random crop, mostly in a voice that nobody has: float32 (:data:`CROP`,)."""
        kind = rng.random()
        if kind < 0.5:
            speed = float(rng.uniform(*PACES))
            return np.resize(at_speed(self._singer(speed, rng), speed), CROP)
        own = self._singer(HIGHEST_PITCH, rng)
        return np.resize(invent_voice(own, rng) if kind < 0.75 else own, CROP)

    def _singer(self, pace: float, rng: np.random.Generator) -> Waveform:
        """Speech that lasts a crop at ``pace``; half of it with spectra of a second speaker."""
        if rng.random() < 0.5:
            return self._stretch(pace, rng)
        own, other = self._stretch(pace * HIGHEST_PITCH, rng), self._stretch(1.0, rng)
        mixed = mix_voices(own, other, float(rng.uniform(*SHARES)))
        return mixed if np.isfinite(mixed).all() else own

    def _stretch(self, pace: float, rng: np.random.Generator) -> Waveform:
        """Of a random segment, as much as lasts a crop at ``pace``."""
        number, index = self.places[int(rng.integers(len(self.places)))]
        return stretch(self.sets[number].segment(index), int(CROP * pace) + 16, rng)


class LessonCrops:
    """Crops with what the teacher heard in each as it was.

    Args:
        folder: holds a file for each of ``_PARTS``, row by row.
    """

    def __init__(self, folder: Path) -> None:
        self.parts = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in _PARTS]

    def __len__(self) -> int:
        return len(self.parts[0])

    def rows(self, numbers: Sequence[int] | npt.NDArray[np.int64]) -> list[Floats]:
        """Crops, embeddings, frames and hints by number, float32 (B, ...)."""
        crops, *answers = (part[numbers].astype(np.float32) for part in self.parts)
        return [crops / np.float32(32_768), *answers]

    @classmethod
    def prepare(cls, lessons: Lessons, report: Tell) -> LessonCrops:
        """Make and keep them; an interrupted run goes on."""
        config = lessons.config
        recipe = [_RECIPE, *_PARTS, config.seed, config.crops, CROP]
        recipe += [contents(config.data.augment) if config.data.augment else ""]
        recipe += [speech.folder.name for speech in lessons.sets]
        digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
        folder = config.data.cache / f"lessons-{digest}"
        progress_file = folder / "done"
        folder.mkdir(parents=True, exist_ok=True)
        done = int(progress_file.read_text()) if progress_file.exists() else 0
        if done < config.crops:
            crops, *answers = (
                np.lib.format.open_memmap(
                    folder / f"{name}.npy",
                    "r+" if done else "w+",
                    np.int16 if name == "crops" else np.float16,
                    (config.crops, *shape),
                )
                for name, shape in _PARTS.items()
            )
            data = config.data
            bank = NoiseBank.load(data.augment) if data.augment else NoiseBank((), ())
            listener, progress = Listener(), each_tenth(report, "crops", done)
            numbers = range(done, config.crops)
            making = DataLoader(
                _Making(lessons, bank), _TOGETHER, sampler=numbers, num_workers=config.workers,
                worker_init_fn=begin_worker,
            )  # fmt: skip
            for waveforms in making:
                rows = slice(done, done + len(waveforms))
                crops[rows] = torch.round(waveforms * 32_767)
                for kept, answer in zip(answers, listener(waveforms), strict=True):
                    kept[rows] = answer.numpy()
                for kept in (crops, *answers):
                    kept.flush()  # before it is counted
                done += len(waveforms)
                replace_file(progress_file, str(done))
                progress(done, config.crops)
        return cls(folder)


_RECIPE = 2  # how crops are made; raise it when that changes
_PARTS = {
    "crops": (CROP,),
    "embeddings": (CAMPPLUS_DIMENSION,),
    "frames": (FRAMES, VALUES),
    "hints": (FRAMES, HINTS),
}


class _Making(Dataset[Waveform]):
    """Crops by number: float32 (:data:`CROP`,)."""

    def __init__(self, lessons: Lessons, bank: NoiseBank) -> None:
        self.lessons = lessons
        self.augmenter = Augmenter(bank, lambda n, rng: np.resize(lessons.recorded(rng), n))

    def __getitem__(self, number: int) -> Waveform:
        lessons = self.lessons
        rng = np.random.default_rng([lessons.config.seed, 1, number])
        crop = lessons.recorded(rng) if number % RECORDED < 2 else lessons.voice(rng)
        if number % RECORDED:
            crop = self._on_its_way(crop, rng)
        return np.asarray(crop * (PEAK / max(float(np.abs(crop).max()), 1e-6)), np.float32)

    def _on_its_way(self, crop: Waveform, rng: np.random.Generator) -> Waveform:
        """A voice as it may reach a verifier: others over it, a microphone, a room, a line."""
        if rng.random() < 0.15:
            crop = add_noise(crop, self.lessons.recorded(rng), rng.uniform(*TALKER))
        if rng.random() < 0.25:
            crop = add_noise(crop, self.augmenter.babble(len(crop), rng), rng.uniform(*BABBLE))
        if rng.random() < 0.5:
            crop = equalise(crop, rng)
        if rng.random() < 0.6:
            crop = self.augmenter(crop, float(rng.uniform(0.2, 1)), rng)
        return crop


def _scale(values: npt.NDArray[np.float16]) -> tuple[Floats, Floats]:
    """Mean and deviation of each value of a layer, (crops, frames, values) to (values,) each."""
    values = values.reshape(-1, values.shape[-1]).astype(np.float32)
    return values.mean(axis=0), values.std(axis=0) + np.float32(LEAST_SPREAD)


def _prepare(folder: Path, cache: Path, labelled: bool, report: Tell) -> SpeechSet:
    return prepare(folder, cache, labelled, default_workers(), each_tenth(report, folder))
