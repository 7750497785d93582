"""Conversions one after another, each saved, measured as the file has it, and written down."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advgan.conversion.converter import Converter, Copier, PerturbingConverter
from advgan.conversion.described import check_config, check_dsp
from advgan.conversion.recording import Heard, hear, some_of
from advgan.judging.judge import DISCRIMINATOR, Detector, Judge
from advgan.judging.pictures import plot_conversion
from advgan.judging.quality import quality
from advgan.judging.words import Words, compare, transcribe
from advgan.networks import checkpoint
from advgan.networks.mel import STANDARD
from advgan.victim.pcm import save_wav
from speakerguard.errors import AudioError
from speakerguard.files import file_hash, replace_file
from speakerguard.sound.audio import SAMPLE_RATE, read

SEED = 961998  # the reference's


@dataclass(frozen=True)
class Settings:
    """What all conversions of one call share; see the command's options."""

    load: str | None = None
    config: Path | None = None
    dsp_config: Path | None = None
    seglen: int | None = None
    seed: int = SEED
    mode: str = "convert"
    eps: float | None = None
    vocoder: str | None = None
    steps: int | None = None
    guard: str = "guard"
    point: str | None = None
    tag: bool = True
    words: bool = True


class Session:
    """Networks loaded once, conversions one after another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        torch.set_num_threads(1)  # the same sums in the same order, however many processes
        torch.manual_seed(settings.seed)
        self.converter: Converter | PerturbingConverter | Copier
        if settings.mode == "copy":
            self.converter = Copier(settings.vocoder)
        elif settings.mode == "perturb":
            self.converter = PerturbingConverter(settings.load, settings.guard, settings.eps)
        else:
            self.converter = Converter(
                settings.load,
                settings.vocoder,
                settings.guard,
                settings.steps or 0,
                settings.eps,
            )
            check_config(settings.config, self.converter.generator.config)
        check_dsp(settings.dsp_config)
        self.judge = Judge(settings.guard, settings.point)
        self.detector = Detector() if checkpoint.shipped(DISCRIMINATOR) else None

    @property
    def vocoder(self) -> str | None:
        """Name of the vocoder in use; None for a mode without."""
        return getattr(getattr(self.converter, "vocoder", None), "name", None)

    @property
    def weights(self) -> str:
        """Fingerprints of what converts, of the guard and its threshold, and of the detector."""
        judges = (self.judge.verifier.scoring.decides_by, getattr(self.detector, "fingerprint", ""))
        return " ".join([self.converter.fingerprint, self.vocoder or "", *judges])

    def attack(
        self, source: Path, target: Path, stem: Path, enrol: Sequence[Path] = (),
        picture: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Convert, save ``stem``.wav, .json and .png, measure; returns what is in the JSON.

        Args:
            enrol: what the guard has enrolled; the target's recording itself where empty, which
                flatters the attack.

        Raises:
            AudioError: a recording cannot be used; then nothing is written.
        """
        voice, words = hear(target, speech_only=True), hear(source)
        whole = (zlib.crc32(heard.waveform.tobytes()) for heard in (voice, words))
        rng = np.random.default_rng([self.settings.seed, *whole])  # another place in each pair
        voice, words = (cut(heard, self.settings.seglen, rng) for heard in (voice, words))
        profile = self.judge.profile(list(enrol) or [target])
        started = time.perf_counter()
        made = self.converter.convert(words, voice)
        seconds = time.perf_counter() - started
        path = stem.with_name(stem.name + ".wav")
        save_wav(path, made, self.converter.rate, self.settings.tag)
        said_before = (words.waveform, SAMPLE_RATE) if self.settings.seglen else source
        before, after = (self.judge.opinion(profile, heard) for heard in (said_before, path))
        said = self._said(words, path)
        record: dict[str, Any] = {
            "source": str(source),
            "target": str(target),
            "enrol": [str(path) for path in enrol or [target]],
            "output": str(path),
            "sha256": file_hash(path),
            "mode": self.settings.mode,
            "generator": self.converter.name,
            "fingerprint": self.converter.fingerprint,
            "vocoder": self.vocoder,
            "eps": getattr(self.converter, "epsilon", None),
            "steps": getattr(self.converter, "steps", None),
            "seed": self.settings.seed,
            "before": dataclasses.asdict(before),
            "after": dataclasses.asdict(after),
            "detector_llr": self._detected(path),
            "quality": quality(path, words.waveform)
            | {"word_error_rate": said.error_rate if said else None},
            "words": dataclasses.asdict(said) if said else None,
            "conversion_seconds": seconds,
            "tagged_synthetic": self.settings.tag,
        }
        replace_file(stem.with_name(stem.name + ".json"), json.dumps(record, indent=2) + "\n")
        if picture:
            plot_conversion(source, target, path, stem.with_name(stem.name + ".png"))
        return record

    def _said(self, source: Heard, path: Path) -> Words | None:
        """What a recogniser hears in source and file; None where it is not asked, or not sure."""
        said = transcribe(source.waveform) if self.settings.words else None
        return compare(said, transcribe(read(path))) if said and said.understood else None

    def _detected(self, path: Path) -> float | None:
        """What the discriminator makes of a file; None where there is none, or no speech."""
        if self.detector is None:
            return None
        try:
            return self.detector.llr(path)
        except AudioError:
            return None


def cut(heard: Heard, frames: int | None, rng: np.random.Generator) -> Heard:
    """``frames`` mel frames of a recording, from a random place; all where it is no longer."""
    if frames is None:
        return heard
    return some_of(heard, frames * STANDARD.hop / STANDARD.sample_rate, rng)


@functools.lru_cache(maxsize=1)
def load_session(settings: Settings) -> Session:
    """The session of these settings, loaded once in this process."""
    return Session(settings)
