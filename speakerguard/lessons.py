"""What a student hears of its teacher, crop by crop and frame by frame.

A teacher is a function, and the student learns it as one: both hear the same crop, however it was
changed, and the student must say what the teacher says of *that* crop (Beyer et al. 2022, "a good
teacher is patient and consistent", arXiv 2106.05237), in every frame and as an embedding. Frames
hold words as well as voices, of which a corpus has many more than speakers; so they teach what
carries over to voices that nobody has heard.

Half of the crops are stretches of recordings as they are. The other half were changed once, in
pace, pitch and formants, by a second voice, a microphone's response, rooms and noise, and lie in
a file with the teacher's answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from speakerguard.audio import SAMPLE_RATE, Waveform
from speakerguard.augment import Augmenter, NoiseBank, equalise, rms
from speakerguard.batches import each_tenth, stretch
from speakerguard.config import LessonConfig
from speakerguard.data import (
    Piece,
    SpeechSet,
    default_workers,
    load_prepared,
    prepare,
    write_prepared,
)
from speakerguard.errors import UsageError
from speakerguard.files import replace_file
from speakerguard.loop import Report
from speakerguard.morph import invent_voice, mix_voices
from speakerguard.teacher import FRAME, VALUES, Listener, at_speed, teach_frames

FRAMES = 13  # of a crop: 2.08 s
CROP = FRAMES * FRAME
PEAK = 0.7
PACES = (0.7, 1.4)  # slowest and fastest
HIGHEST_PITCH = 1.6  # that a voice is played at to make another
LEAST_LENT = 1.5  # seconds of the second voice, to take spectra from
SHARES = (0.3, 0.75)  # of the second voice, at least and at most
LEAST_SPREAD = 0.05  # of a value of the teacher's; some hardly ever change
_TOGETHER = 32  # crops that the teacher hears at once

Place = tuple[int, int]  # a set of speech, a segment in it


class Lesson(NamedTuple):
    """A batch: crops (B, :data:`CROP`), embeddings (B, 192), frames (B, :data:`FRAMES`, 512).

    Embeddings are unit vectors once freed of the teacher's mean; frames have mean 0 and deviation
    1 over the corpus.
    """

    waveforms: Tensor
    embeddings: Tensor
    frames: Tensor


class Lessons(Dataset[Lesson]):
    """Lesson number ``step`` of a run, made on demand from what is prepared once."""

    def __init__(self, config: LessonConfig, rank: int = 0, report: Report = print) -> None:
        self.config, self.rank = config, rank
        data = config.data
        self.sets = [_prepare(folder, data.cache, True, report) for folder in data.folders]
        further = (*((data.unlabelled,) if data.unlabelled else ()), *config.also)
        self.sets += [_prepare(folder, data.cache, False, report) for folder in further]
        if config.mixed:
            mixed = mixed_speech(self.sets, data.cache, config.seed, report, config.workers)
            self.sets.append(mixed)
        self.frames = [teach_frames(s, each_tenth(report, "teacher")) for s in self.sets]
        self.embeddings = [np.load(s.folder / "campplus-1.npy") for s in self.sets]
        self.mean = self.embeddings[0].astype(np.float32).mean(axis=0)
        some = self.frames[0][0][:: max(1, len(self.frames[0][0]) // 20_000)].astype(np.float32)
        self.middle, self.spread = some.mean(axis=0), some.std(axis=0) + LEAST_SPREAD
        self.places = [
            (number, index)
            for number, speech in enumerate(self.sets)
            for index in np.flatnonzero(speech.lengths >= CROP).tolist()
        ]
        if not self.places:
            seconds = CROP / SAMPLE_RATE
            raise UsageError(f"{data.folders[0]}: no stretch of speech lasts {seconds:.2f} s.")
        self.changed = Changed.prepare(self, report) if config.changed else None

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Lesson:
        rng = np.random.default_rng([self.config.seed, self.rank, step])
        half = self.config.batch // 2 if self.changed else 0
        rows = [self._plain(rng) for _ in range(self.config.batch - half)]
        if self.changed:
            rows += [self.changed.row(int(i)) for i in rng.integers(len(self.changed), size=half)]
        waveforms, embeddings, frames = (np.stack(part) for part in zip(*rows, strict=True))
        waveforms = waveforms * 10 ** rng.uniform(-0.5, 0.3, (len(rows), 1)).astype(np.float32)
        return Lesson(
            torch.from_numpy(waveforms),
            nn.functional.normalize(torch.from_numpy(embeddings - self.mean), dim=1),
            torch.from_numpy((frames - self.middle) / self.spread),
        )

    def _plain(self, rng: np.random.Generator) -> tuple[Waveform, Waveform, Waveform]:
        """A stretch of a recording: the crop, the whole segment's embedding, the crop's frames."""
        number, index = self.draw(rng)
        speech, (frames, begin) = self.sets[number], self.frames[number]
        there = begin[index + 1] - begin[index]
        most = min(int(speech.lengths[index] - CROP) // FRAME, int(there) - FRAMES)
        first = int(rng.integers(max(0, most) + 1))
        crop = speech.segment(index)[first * FRAME : first * FRAME + CROP]
        at = begin[index] + first
        heard = frames[at : min(at + FRAMES, begin[index + 1])].astype(np.float32)
        heard = np.concatenate([heard, *[heard[-1:]] * (FRAMES - len(heard))])
        return crop, self.embeddings[number][index].astype(np.float32), heard

    def draw(self, rng: np.random.Generator) -> Place:
        """A random segment that holds a whole crop."""
        return self.places[int(rng.integers(len(self.places)))]

    def voice(self, rng: np.random.Generator) -> Waveform:
        """A random crop, mostly in a voice that nobody has: float32 (:data:`CROP`,)."""
        kind = rng.random()
        if kind < 0.5:
            speed = float(rng.uniform(*PACES))
            return np.resize(at_speed(self._stretch(speed, rng), speed), CROP)
        if kind < 0.75:
            return np.resize(invent_voice(self._stretch(HIGHEST_PITCH, rng), rng), CROP)
        own = self._stretch(HIGHEST_PITCH, rng)
        if kind < 0.85:
            own = mix_voices(own, self._stretch(1.0, rng), float(rng.uniform(0.6, 1.2)))
        return np.resize(own, CROP)

    def _stretch(self, pace: float, rng: np.random.Generator) -> Waveform:
        """Of a random segment, as much as lasts a crop at ``pace``."""
        number, index = self.draw(rng)
        return stretch(self.sets[number].segment(index), int(CROP * pace) + 16, rng)


class Changed:
    """Crops that were changed, with what the teacher heard in each as it was.

    Args:
        folder: holds ``crops.npy``, ``embeddings.npy`` and ``frames.npy``, row by row.
    """

    def __init__(self, folder: Path) -> None:
        self.parts = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in _PARTS]

    def __len__(self) -> int:
        return len(self.parts[0])

    def row(self, index: int) -> tuple[Waveform, Waveform, Waveform]:
        """Crop, embedding and frames number ``index``, float32."""
        crop, embedding, frames = (part[index].astype(np.float32) for part in self.parts)
        return crop / np.float32(32_768), embedding, frames

    @classmethod
    def prepare(cls, lessons: Lessons, report: Report) -> Changed:
        """Make and keep them; an interrupted run goes on."""
        config = lessons.config
        recipe = [config.seed, config.changed, str(config.data.augment), CROP]
        recipe += [speech.folder.name for speech in lessons.sets]
        digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
        folder = config.data.cache / f"lessons-{digest}"
        progress_file = folder / "done"
        folder.mkdir(parents=True, exist_ok=True)
        done = int(progress_file.read_text()) if progress_file.exists() else 0
        if done < config.changed:
            shapes = {"crops": (CROP,), "embeddings": (192,), "frames": (FRAMES, VALUES)}
            mode = "r+" if done else "w+"
            crops, embeddings, frames = (
                np.lib.format.open_memmap(
                    folder / f"{name}.npy",
                    mode,
                    np.int16 if name == "crops" else np.float16,
                    (config.changed, *shapes[name]),
                )
                for name in _PARTS
            )
            data = config.data
            bank = NoiseBank.load(data.augment) if data.augment else NoiseBank((), ())
            listener, progress = Listener(), each_tenth(report, "changed crops")
            numbers = range(done, config.changed)
            making = DataLoader(_Changes(lessons, bank), _TOGETHER, sampler=numbers,
                                num_workers=config.workers)  # fmt: skip
            for waveforms in making:
                rows = slice(done, done + len(waveforms))
                crops[rows] = torch.round(waveforms * 32_767)
                heard, seen = listener(waveforms)
                embeddings[rows], frames[rows] = heard.numpy(), seen.numpy()
                for kept in (crops, embeddings, frames):
                    kept.flush()  # before it is counted
                done += len(waveforms)
                replace_file(progress_file, str(done))
                progress(done, config.changed)
        return cls(folder)


_PARTS = ("crops", "embeddings", "frames")


class _Changes(Dataset[Waveform]):
    """Changed crops by number: float32 (:data:`CROP`,)."""

    def __init__(self, lessons: Lessons, bank: NoiseBank) -> None:
        self.lessons = lessons
        self.augmenter = Augmenter(bank, lambda n, rng: np.resize(lessons.voice(rng), n))

    def __getitem__(self, number: int) -> Waveform:
        lessons = self.lessons
        rng = np.random.default_rng([lessons.config.seed, 1, number])
        crop = lessons.voice(rng)
        if rng.random() < 0.15:
            other = lessons.voice(rng)
            crop = crop + other * (rms(crop) / rms(other) * 10 ** (-rng.uniform(0, 10) / 20))
        if rng.random() < 0.5:
            crop = equalise(crop, rng)
        if rng.random() < 0.6:
            crop = self.augmenter(crop, float(rng.uniform(0.2, 1)), rng)
        return np.asarray(crop * (PEAK / max(float(np.abs(crop).max()), 1e-6)), np.float32)


def mixed_speech(
    sets: list[SpeechSet], cache: Path, seed: int, report: Report, workers: int = 0
) -> SpeechSet:
    """Every segment once more, with a part of the spectra and pitch of a second speaker.

    It is kept as prepared speech is, below ``cache``; ``workers`` processes make it.
    """
    recipe = json.dumps([seed, [speech.folder.name for speech in sets]])
    folder = cache / f"mixed-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not (folder / "index.json").exists():
        mixing, progress = _Mixed(sets, seed), each_tenth(report, "mixed voices")

        def pieces() -> Iterator[Piece]:
            made = DataLoader(mixing, None, num_workers=workers)
            for done, (place, samples) in enumerate(zip(mixing.places, made, strict=True), start=1):
                if len(samples):
                    yield samples.numpy(), None, "{}/{}".format(*place)
                progress(done, len(mixing.places))

        write_prepared(folder, "mixed", pieces(), [])
    return load_prepared(folder)


class _Mixed(Dataset[npt.NDArray[np.int16]]):
    """Mixed segments by number: int16 (n,), empty where the voices do not mix."""

    def __init__(self, sets: list[SpeechSet], seed: int) -> None:
        self.sets, self.seed = sets, seed
        self.places = [(s, i) for s, speech in enumerate(sets) for i in range(len(speech))]
        long = LEAST_LENT * SAMPLE_RATE
        self.lenders = [(s, i) for s, i in self.places if sets[s].lengths[i] > long]
        if len(self.lenders) < 2:
            raise UsageError(
                f"mixed: no two stretches of speech last {LEAST_LENT} s; set mixed: false"
            )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> npt.NDArray[np.int16]:
        rng = np.random.default_rng([self.seed, 2, number + 1])
        place = self.places[number]
        while (lender := self.lenders[int(rng.integers(len(self.lenders)))]) == place:
            pass
        own, other = (self.sets[s].segment(i) for s, i in (place, lender))
        mixed = mix_voices(own, other, float(rng.uniform(*SHARES)))
        if not np.isfinite(mixed).all():
            return np.zeros(0, np.int16)
        mixed = mixed / max(1.0, float(np.abs(mixed).max()))
        return np.round(mixed * 32_767).astype(np.int16)


def _prepare(folder: Path, cache: Path, labelled: bool, report: Report) -> SpeechSet:
    return prepare(folder, cache, labelled, default_workers(), each_tenth(report, folder))
