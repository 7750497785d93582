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

import numpy as np
import torch

from advgan.conversion.converter import Converter, Copier, PerturbingConverter
from advgan.conversion.described import check_config, check_dsp
from advgan.conversion.recording import Decoded, Utterance, some_of
from advgan.judging.judge import DISCRIMINATOR, Detector, Judge, Opinion
from advgan.judging.pictures import plot_conversion
from advgan.judging.quality import quality
from advgan.judging.words import Words, compare, transcribe
from advgan.networks import checkpoint
from advgan.networks.mel import STANDARD
from advgan.victim.pcm import save_wav
from speakerguard.errors import AudioError
from speakerguard.files import file_hash, replace_file
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.verification.countermeasure import SecondOpinion

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


@dataclass(frozen=True)
class Converted:
    """One conversion as its JSON file has it. Everything measured is of the saved file.

    Attributes:
        source, target, enrol, output: paths; the target's own recording where none was enrolled.
        sha256: of the output.
        fingerprint: of the generator; vocoder: None for a mode without.
        before, after: the guard's opinion of the source and of the output.
        detector_llr: None where there is no discriminator, or no speech to judge.
        quality: see :func:`advgan.judging.quality.quality`, with ``word_error_rate``.
        words: None where the source was not understood, or nobody asked.
    """

    source: str
    target: str
    enrol: list[str]
    output: str
    sha256: str
    mode: str
    generator: str
    fingerprint: str
    vocoder: str | None
    eps: float | None
    steps: int | None
    seed: int
    before: Opinion
    after: Opinion
    detector_llr: float | None
    quality: dict[str, float | None]
    words: Words | None
    conversion_seconds: float
    tagged_synthetic: bool


class Session:
    """Networks loaded once, conversions one after another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
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
        shipped = checkpoint.shipped(DISCRIMINATOR)
        self.second_opinion = SecondOpinion(Detector() if shipped else None)

    @property
    def vocoder(self) -> str | None:
        """Name of the vocoder in use; None for a mode without."""
        return getattr(getattr(self.converter, "vocoder", None), "name", None)

    @property
    def weights(self) -> str:
        """Fingerprints of what converts, of the guard and its threshold, and of the detector."""
        detector = getattr(self.second_opinion.countermeasure, "fingerprint", "")
        guard = self.judge.verifier.scoring.decides_by
        return " ".join([self.converter.fingerprint, self.vocoder or "", guard, detector])

    def attack(
        self, source: Path, target: Path, stem: Path, enrol: Sequence[Path] = (),
        picture: bool = True,
    ) -> Converted:  # fmt: skip
        """Convert, save ``stem``.wav, .json and .png, measure.

        Args:
            enrol: what the guard has enrolled; the target's recording itself where empty, which
                flatters the attack.

        Raises:
            AudioError: a recording cannot be used; then nothing is written.
        """
        theirs, own = Decoded(target), Decoded(source)
        voice, words = self._cut(theirs.utterance(speech_only=True), own.utterance())
        profile = self.judge.profile(list(enrol) or [theirs.probe])
        started = time.perf_counter()
        sound = self.converter.convert(words, voice)
        seconds = time.perf_counter() - started
        path = stem.with_name(stem.name + ".wav")
        save_wav(path, sound, self.converter.rate, self.settings.tag)
        saved = Decoded(path)
        probe = (words.waveform, SAMPLE_RATE) if self.settings.seglen else own.probe
        said = self._said(words.waveform, saved.waveform)
        rate = {"word_error_rate": said.error_rate if said else None}
        converted = Converted(
            source=str(source),
            target=str(target),
            enrol=[str(path) for path in enrol or [target]],
            output=str(path),
            sha256=file_hash(path),
            mode=self.settings.mode,
            generator=self.converter.name,
            fingerprint=self.converter.fingerprint,
            vocoder=self.vocoder,
            eps=getattr(self.converter, "epsilon", None),
            steps=getattr(self.converter, "steps", None),
            seed=self.settings.seed,
            before=self.judge.opinion(profile, probe),
            after=self.judge.opinion(profile, saved.probe),
            detector_llr=self._detected(saved),
            quality=quality(saved.waveform, words.waveform) | rate,
            words=said,
            conversion_seconds=seconds,
            tagged_synthetic=self.settings.tag,
        )
        text = json.dumps(dataclasses.asdict(converted), indent=2) + "\n"
        replace_file(stem.with_name(stem.name + ".json"), text)
        if picture:
            drawn = stem.with_name(stem.name + ".png")
            plot_conversion(own.waveform, theirs.waveform, saved.waveform, drawn)
        return converted

    def _cut(self, voice: Utterance, words: Utterance) -> tuple[Utterance, Utterance]:
        """As much of both as the settings say, from another place in each pair."""
        whole = (zlib.crc32(utterance.waveform.tobytes()) for utterance in (voice, words))
        rng = np.random.default_rng([self.settings.seed, *whole])
        return cut(voice, self.settings.seglen, rng), cut(words, self.settings.seglen, rng)

    def _said(self, source: Waveform, saved: Waveform) -> Words | None:
        """What a recogniser hears in source and file; None where it is not asked, or not sure."""
        said = transcribe(source) if self.settings.words else None
        return compare(said, transcribe(saved)) if said and said.understood else None

    def _detected(self, saved: Decoded) -> float | None:
        """What the discriminator makes of a file; None where there is none, or no speech."""
        try:
            return self.second_opinion.llr(saved.probe)
        except AudioError:
            return None


def cut(utterance: Utterance, frames: int | None, rng: np.random.Generator) -> Utterance:
    """``frames`` mel frames of a recording, from a random place; all where it is no longer."""
    if frames is None:
        return utterance
    return some_of(utterance, frames * STANDARD.hop / STANDARD.sample_rate, rng)


@functools.lru_cache(maxsize=1)
def load_session(settings: Settings) -> Session:
    """The session of these settings, loaded once in this process."""
    return Session(settings)
