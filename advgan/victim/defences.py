"""What can stand before a verifier, and what each costs honest users.

A defence turns audio into one or more views, which the verifier scores; it makes one score of
theirs, and may also call the audio suspicious. Entry-point group ``speakerguard.defences``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.signal import butter, medfilt, sosfiltfilt
from torch import Tensor

from advgan.victim.channels import round_trip
from advgan.victim.pcm import to_pcm
from advgan.victim.plugins import NotRunError, build
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import add_noise
from speakerguard.verification.countermeasure import REAL, Differentiable, SecondOpinion

GROUP = "speakerguard.defences"


class Defence(BaseModel, ABC):
    """One defence; its fields are its parameters.

    Attributes:
        name: as suites and entry points have it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    @property
    def detects(self) -> bool:
        """Whether it calls audio suspicious, beside changing what is scored."""
        return False

    @property
    def limit(self) -> float | None:
        """Suspicion above which it rejects; None where the report is to set it."""
        return None

    @property
    def programs(self) -> list[type]:
        """Classes whose source decides what it does."""
        return [type(self)]

    @abstractmethod
    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """What the verifier scores: waveforms float32 of the same length, in [-1, 1]."""

    def fuse(self, scores: Sequence[float]) -> float:
        """One score from those of the views."""
        return scores[0]

    def suspicion(self, waveform: Waveform, scores: Sequence[float]) -> float | None:
        """How suspicious the audio is, higher for more; None if this defence does not detect.

        Args:
            waveform: the first of its :meth:`views`; scores: of all of them.
        """
        return None

    def to_raise(self, scores: Tensor) -> Tensor:
        """What an attacker who knows this defence raises, given the scores of its views (V,)."""
        return scores.mean()

    def realness(self, speech: Tensor) -> Tensor | None:
        """What else it must be told: an LLR of real against made speech (n,), with gradient.

        None if it asks for nothing else, or nobody can say how to give it that.
        """
        return None

    @property
    def title(self) -> str:
        """Name and the parameters that were set."""
        given = self.model_dump(mode="json", exclude_unset=True)
        named = [f"{key}={value}" for key, value in sorted(given.items())]
        return f"{self.name}[{','.join(named)}]" if named else self.name


class Quantise(Defence):
    """Fewer bits a sample: small perturbations fall between the steps."""

    name: ClassVar[str] = "quantise"
    bits: int = Field(default=8, ge=2, le=15)

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        steps = np.float32(2 ** (self.bits - 1))
        return [np.clip(np.round(waveform * steps) / steps, -1, 1)]


class Median(Defence):
    """A median filter over neighbouring samples."""

    name: ClassVar[str] = "median"
    kernel: int = Field(default=3, ge=3, le=31)

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        return [medfilt(waveform, self.kernel | 1).astype(np.float32)]


class LowPass(Defence):
    """Nothing above ``hz`` passes."""

    name: ClassVar[str] = "low-pass"
    hz: float = Field(default=4000, gt=300, lt=SAMPLE_RATE / 2)

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        filtered = sosfiltfilt(butter(6, self.hz, fs=SAMPLE_RATE, output="sos"), waveform)
        return [np.clip(filtered, -1, 1).astype(np.float32)]


class Opus(Defence):
    """An Opus round trip: what people cannot hear is not kept."""

    name: ClassVar[str] = "opus"
    level: float = Field(default=0.9, ge=0, le=1)

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        return [np.clip(round_trip(waveform, "opus", self.level), -1, 1)]


class Smoothing(Defence):
    """Several noisy copies vote: the median score is accepted exactly if most copies are."""

    name: ClassVar[str] = "smoothing"
    copies: int = Field(default=5, ge=1, le=99)
    snr: float = Field(default=20, ge=-10, le=60)

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        noises = (rng.standard_normal(len(waveform), np.float32) for _ in range(self.copies))
        return [np.clip(add_noise(waveform, noise, self.snr), -1, 1) for noise in noises]

    def fuse(self, scores: Sequence[float]) -> float:
        """See :meth:`Defence.fuse`."""
        return float(np.median(scores))


class ScoreVariation(Defence):
    """Suspicious is what scores otherwise after a codec: adversarial scores are brittle.

    As in arXiv 2406.04582, whose limit is set so that a chosen share of honest users is flagged.
    """

    name: ClassVar[str] = "score-variation"
    codec: str = "opus"
    level: float = Field(default=0.9, ge=0, le=1)

    @property
    def detects(self) -> bool:
        """See :attr:`Defence.detects`."""
        return True

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        return [waveform, np.clip(round_trip(waveform, self.codec, self.level), -1, 1)]

    def suspicion(self, waveform: Waveform, scores: Sequence[float]) -> float | None:
        """See :meth:`Defence.suspicion`."""
        return abs(scores[0] - scores[1])

    def to_raise(self, scores: Tensor) -> Tensor:
        """See :meth:`Defence.to_raise`; what gives the attack away counts against it."""
        return scores.mean() - (scores[0] - scores[1]).abs()


class CountermeasureDefence(Defence):
    """A second opinion on whether speech is real, such as the attacker's own discriminator.

    Attributes:
        detector: any name in the entry-point group ``speakerguard.countermeasures``.
    """

    name: ClassVar[str] = "countermeasure"
    detector: str = "discriminator"

    @property
    def detects(self) -> bool:
        """See :attr:`Defence.detects`."""
        return True

    @property
    def limit(self) -> float:
        """That of an LLR of :data:`.REAL`, under which a verifier given this detector rejects."""
        return 0.0 - REAL

    @property
    def programs(self) -> list[type]:
        """See :attr:`Defence.programs`."""
        try:
            return [type(self), type(self._judge.countermeasure)]
        except NotRunError:
            return [type(self)]

    @cached_property
    def _judge(self) -> SecondOpinion:
        try:
            return SecondOpinion(self.detector)
        except CheckpointError as error:
            raise NotRunError(
                f"the countermeasure {self.detector!r} cannot be loaded; train it, or name another "
                "with `detector`."
            ) from error

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        _ = self._judge
        return [waveform]

    def suspicion(self, waveform: Waveform, scores: Sequence[float]) -> float | None:
        """See :meth:`Defence.suspicion`."""
        llr = self._judge.llr((to_pcm(waveform), SAMPLE_RATE))
        return None if llr is None else -llr

    def realness(self, speech: Tensor) -> Tensor | None:
        """See :meth:`Defence.realness`."""
        judge = self._judge.countermeasure
        return judge.llr_of(speech) if isinstance(judge, Differentiable) else None


class Combined(Defence):
    """Several in a row; only the last may have several views or detect.

    Attributes:
        parts: names, or one-key maps from a name to parameters.
    """

    name: ClassVar[str] = "combined"
    parts: tuple[str | dict[str, dict[str, Any]], ...] = Field(min_length=2)

    @property
    def detects(self) -> bool:
        """See :attr:`Defence.detects`."""
        return self._built[-1].detects

    @property
    def limit(self) -> float | None:
        """See :attr:`Defence.limit`."""
        return self._built[-1].limit

    @property
    def programs(self) -> list[type]:
        """See :attr:`Defence.programs`."""
        return [program for part in self._built for program in part.programs]

    @cached_property
    def _built(self) -> list[Defence]:
        return [defence(part) for part in self.parts]

    def views(self, waveform: Waveform, rng: np.random.Generator) -> list[Waveform]:
        """See :meth:`Defence.views`."""
        for part in self._built[:-1]:
            (waveform,) = part.views(waveform, rng)
        return self._built[-1].views(waveform, rng)

    def fuse(self, scores: Sequence[float]) -> float:
        """See :meth:`Defence.fuse`."""
        return self._built[-1].fuse(scores)

    def suspicion(self, waveform: Waveform, scores: Sequence[float]) -> float | None:
        """See :meth:`Defence.suspicion`."""
        return self._built[-1].suspicion(waveform, scores)

    def to_raise(self, scores: Tensor) -> Tensor:
        """See :meth:`Defence.to_raise`."""
        return self._built[-1].to_raise(scores)

    def realness(self, speech: Tensor) -> Tensor | None:
        """See :meth:`Defence.realness`."""
        return self._built[-1].realness(speech)

    @property
    def title(self) -> str:
        """The parts' titles, in order."""
        return " + ".join(part.title for part in self._built)


def flags(suspicion: float | None, limit: float | None) -> bool:
    """Whether audio is rejected as too suspicious, where both are known."""
    return suspicion is not None and limit is not None and suspicion > limit


def defence(given: str | dict[str, dict[str, Any]]) -> Defence:
    """The defence that a suite names: ``opus``, or ``{quantise: {bits: 6}}``.

    Raises:
        UsageError: it is unknown, or more than one is named.

    >>> defence({"quantise": {"bits": 6}}).title
    'quantise[bits=6]'
    """
    if isinstance(given, str):
        given = {given: {}}
    if len(given) != 1:
        raise UsageError(f"{given}: name one defence at a time; `combined` joins several.")
    ((name, parameters),) = given.items()
    built: Defence = build(name, parameters or {}, GROUP)
    return built
