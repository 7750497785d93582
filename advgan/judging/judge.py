"""What verifiers and the discriminator say of a saved file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import soxr
import torch
from torch import Tensor

from advgan.networks import checkpoint
from advgan.networks.discriminator import Discriminator
from advgan.networks.mel import LEVEL, STANDARD, MelSpectrogram, from_guard, levelled
from speakerguard.embedders.contract import Embedding
from speakerguard.errors import AudioError, CheckpointError
from speakerguard.processes import Remade, torch_may_fork
from speakerguard.sound import audio
from speakerguard.sound.audio import AudioSource
from speakerguard.sound.speech import TIGHT, Speech, load_speech
from speakerguard.verification.cohort import cosines
from speakerguard.verification.profile import centroid
from speakerguard.verification.verifier import Verifier

DISCRIMINATOR = "discriminator"


@dataclass(frozen=True)
class Opinion:
    """One verifier's answer to the claim that a file is the target's voice.

    Attributes:
        score: in ``unit``; None where the verifier hears nothing to judge, and ``reason`` says why.
        cosine: with the profile; None likewise.
        threshold: the least score that is accepted.
        unit: see :class:`speakerguard.verification.answers.Verification`.
    """

    model: str
    score: float | None
    cosine: float | None
    unit: str
    threshold: float
    point: str
    accepted: bool
    reason: str = ""

    @property
    def shown(self) -> str:
        """The score, for people."""
        return "no speech" if self.score is None else f"{self.score:+.3f}"


class Judge:
    """A verifier with its own threshold."""

    def __init__(self, model: str = "guard", point: str | None = None) -> None:
        self.verifier = Verifier(model)
        self.name = self.verifier.model
        self.point = self.verifier.calibration.point(point)

    def profile(self, sources: Sequence[AudioSource | Speech]) -> Embedding:
        """Centroid of what is enrolled: float32 (dimension,), unit length."""
        return centroid(np.stack(self._embed(sources)))

    def opinion(self, profile: Embedding, source: AudioSource | Speech) -> Opinion:
        """Score and decision at the operating point; what cannot be judged is not accepted."""
        scoring = self.verifier.scoring
        said = partial(
            Opinion, model=self.name, unit=scoring.unit,
            threshold=self.point.threshold, point=self.point.name,
        )  # fmt: skip
        try:
            (embedding,) = self._embed([source])
        except AudioError as error:
            return said(score=None, cosine=None, accepted=False, reason=str(error))
        score = scoring.score(profile, embedding)
        cosine = float(cosines(profile[None], embedding[None])[0])
        return said(score=score, cosine=cosine, accepted=self.point.accepts(score))

    def _embed(self, sources: Sequence[AudioSource | Speech]) -> list[Embedding]:
        return self.verifier.embed_speech([speech_of(source) for source in sources])


_CALIBRATION = {"scale": 1.0, "offset": 0.0}  # where a discriminator states none


class Detector(Remade):
    """The discriminator as a detector of made speech; see :mod:`advgan.training.detector_task`.

    Where a process is forked after this was made, torch has one thread there.
    """

    def __init__(self, model: str = DISCRIMINATOR) -> None:
        torch_may_fork()
        loaded = checkpoint.load("discriminator", model)
        STANDARD.require(loaded.convention, f"the discriminator {model}")
        assert isinstance(loaded.network, Discriminator)
        self.network = loaded.network
        self.fingerprint = loaded.fingerprint
        try:
            said = [float(loaded.about.get(key, usual)) for key, usual in _CALIBRATION.items()]
        except (TypeError, ValueError):
            said = [math.nan]
        if not all(map(math.isfinite, said)):
            raise CheckpointError(
                f"the discriminator {model}: its calibration is damaged. Copy or download it again."
            )
        self.scale, self.offset = said
        self.mel = MelSpectrogram()

    def llr(self, source: AudioSource | Speech) -> float:
        """Log-likelihood ratio, natural, of real against made speech.

        Raises:
            AudioError: the recording cannot be judged.
        """
        speech = speech_of(source).within(TIGHT)  # as in training, without silences
        wide = soxr.resample(speech, audio.SAMPLE_RATE, STANDARD.sample_rate, "HQ")
        with torch.inference_mode():
            return float(self._llr(torch.from_numpy(levelled(wide))[None]))

    def llr_of(self, speech: Tensor) -> Tensor:
        """Nearly the same, with gradient, of speech (n,) at 16 kHz without its silences."""
        wide = from_guard(speech[None])
        return self._llr(wide * LEVEL / wide.square().mean().sqrt().clamp(min=1e-9))

    def _llr(self, wide: Tensor) -> Tensor:
        return self.scale * self.network.score(self.mel(wide))[0] + self.offset


def speech_of(source: AudioSource | Speech) -> Speech:
    """The speech of a recording, looked for where that was not done before.

    Raises:
        AudioError: the recording cannot be judged.
    """
    return source if isinstance(source, Speech) else load_speech(source)
