"""What tests of training share: voices made of buzzes, each with its own pitch and formants."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy.signal import lfilter

from speakerguard.sound.audio import SAMPLE_RATE, AudioSource, read
from speakerguard.sound.speech import FRAME, Speech
from speakerguard.training import batches, data, devset, lessons
from speakerguard.training.config import TrainConfig

SPEAKERS, RECORDINGS = 4, 3


def buzz(speaker: int, seed: int, seconds: float = 2.0) -> npt.NDArray[np.float64]:
    """A voice without words: pulses at the speaker's pitch through the speaker's formants."""
    rng = np.random.default_rng([speaker, seed])
    pitch = 90 + 45 * speaker + 6 * rng.standard_normal(round(seconds * 4))
    phase = np.cumsum(np.repeat(pitch, SAMPLE_RATE // 4)) / SAMPLE_RATE
    sound = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.standard_normal(len(phase))
    for hz in (400 + 130 * speaker, 1_300 + 250 * speaker, 2_600 - 150 * speaker):
        sound = lfilter([1], [1, -1.94 * np.cos(2 * np.pi * hz / SAMPLE_RATE), 0.94], sound)
    return 0.5 * sound / np.abs(sound).max()


def whole(source: AudioSource) -> Speech:
    """In place of ``load_speech``, which hears no speech in a buzz."""
    samples = read(source)
    seconds = len(samples) / SAMPLE_RATE
    kept = np.ones(-(-len(samples) // FRAME), bool)
    return Speech(str(source), samples, kept, kept, seconds, seconds)


def make_corpus(root: Path) -> Path:
    """A training set, a dev set and its trials below ``root``."""
    for speaker in range(SPEAKERS):
        for split, count in (("train", RECORDINGS), ("dev", 2)):
            for number in range(count):
                path = root / split / f"s{speaker}" / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, buzz(speaker, 10 * (split == "dev") + number), SAMPLE_RATE)
    trials = [
        f"{int(a == b)} s{a}/0.wav s{b}/1.wav" for a in range(SPEAKERS) for b in range(SPEAKERS)
    ]
    (root / "trials.txt").write_text("\n".join(trials))
    return root


def take_buzzes_for_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in a recording is speech; one process cuts it."""
    monkeypatch.setattr(data, "load_speech", whole)
    monkeypatch.setattr(devset, "load_speech", whole)
    monkeypatch.setattr(batches, "default_workers", lambda: 1)
    monkeypatch.setattr(lessons, "default_workers", lambda: 1)


def config(corpus: Path, out: Path, **more: Any) -> TrainConfig:
    content: dict[str, Any] = {
        "out": out,
        "model": {"width": 4, "tdnn_channels": 16, "embedding": 32},
        "data": {
            "train": corpus / "train",
            "dev": corpus / "dev",
            "dev_trials": corpus / "trials.txt",
            "cache": corpus / "cache",
        },
        "loss": {"softmax": 1, "scale": 10, "margin": 0},
        "steps": 20,
        "voices": 4,
        "crop_seconds": [1.0, 1.2],
        "learning_rate": 3e-3,
        "warmup": 2,
        "bfloat16": False,
        "workers": 0,
        "evaluate_every": 10,
    }
    for key, value in more.items():
        content[key] = content[key] | value if isinstance(content.get(key), dict) else value
    return TrainConfig.model_validate(content)


def quiet(_: str) -> None:
    """A report that nobody reads."""
