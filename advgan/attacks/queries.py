"""Attacks that only ask the guard: for its score, or for yes and no. Every question counts."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from advgan.attacks.contract import Attack, Budget, Family
from advgan.victim.claim import Guard, Knowledge
from speakerguard.errors import AudioError
from speakerguard.sound.audio import Waveform


class Nes(Attack):
    """Climbs the score by gradients estimated from queries.

    Natural evolution strategy with antithetic samples (Ilyas et al. 2018, arXiv 1804.08598), with
    momentum and sign steps as in FAKEBOB (Chen et al. 2021, arXiv 1911.01840). It stops once it
    is accepted with a little to spare.

    Attributes:
        queries: most questions asked.
        epsilon: largest change of a sample.
        samples: questions for one estimate, in pairs.
        sigma: deviation of the noise that is asked about.
        spare: how far over the threshold it stops, as a cosine.
        period: samples after which the noise repeats; a few hundred queries find a direction among
            a hundred unknowns, not among tens of thousands. 0 for noise that never repeats.
    """

    name: ClassVar[str] = "nes"
    family: ClassVar[Family] = "query"
    knowledge: ClassVar[Knowledge] = Knowledge.SCORES

    queries: int = Field(default=1000, ge=4)
    epsilon: float = Field(default=0.005, gt=0, le=1)
    samples: int = Field(default=20, ge=2)
    sigma: float = Field(default=0.003, gt=0)
    spare: float = Field(default=0.01, ge=0)
    period: int = Field(default=100, ge=0)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.queries < (least := 2 * (self.samples // 2) + 2):
            raise ValueError(f"queries must be {least} or more for samples={self.samples}")
        return self

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(epsilon=self.epsilon, queries=self.queries)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        last = guard.queries + self.queries
        audio, slope = source, np.zeros(len(source), np.float32)
        best, highest = source, guard.score(source)
        rate = self.epsilon / 4
        while highest < guard.threshold + self.spare:
            if guard.queries + 2 * (self.samples // 2) + 1 > last:
                break
            slope = 0.9 * slope + 0.1 * self._slope(audio, guard)
            audio = np.clip(
                audio + np.float32(rate) * np.sign(slope),
                np.maximum(source - np.float32(self.epsilon), -1),
                np.minimum(source + np.float32(self.epsilon), 1),
            )
            score = _score(audio, guard)
            if score is not None and score > highest:
                best, highest = audio, score
            else:
                rate = max(rate * 0.8, self.epsilon / 40)
        return best

    def _slope(self, audio: Waveform, guard: Guard) -> Waveform:
        slope = np.zeros(len(audio), np.float32)
        for _ in range(self.samples // 2):
            unknowns = guard.rng.standard_normal(self.period or len(audio), np.float32)
            noise = np.resize(unknowns, len(audio))
            up = _score(audio + np.float32(self.sigma) * noise, guard)
            down = _score(audio - np.float32(self.sigma) * noise, guard)
            if up is not None and down is not None:
                slope += np.float32(up - down) * noise
        return slope / np.float32(max(np.abs(slope).max(), 1e-12))


class DecisionOnly(Attack):
    """Starts from the target's own recording and walks towards the source while accepted.

    A boundary search on yes and no alone: halving between source and accepted audio, then steps
    along a direction estimated from accepted and rejected neighbours (HopSkipJump, Chen et al.
    2020, arXiv 1904.02144). What remains of the recording is what the guard demands; the ratio of
    source to it says whether a person would notice.
    """

    name: ClassVar[str] = "decision-only"
    family: ClassVar[Family] = "query"
    knowledge: ClassVar[Knowledge] = Knowledge.DECISIONS

    queries: int = Field(default=500, ge=10)
    samples: int = Field(default=20, ge=2)
    halvings: int = Field(default=6, ge=1, le=20)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.queries < (least := self.halvings + 1):
            raise ValueError(f"queries must be {least} or more for halvings={self.halvings}")
        return self

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(queries=self.queries)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        last = guard.queries + self.queries
        accepted = np.resize(target, len(source))
        if not guard.accepts(accepted):
            return accepted
        accepted = self._nearest(source, accepted, guard)
        while guard.queries + self.samples + self.halvings + 3 <= last:
            distance = _norm(accepted - source)
            direction = self._direction(accepted, distance, guard)
            step = distance / 4
            for _ in range(3):
                moved = np.clip(accepted + np.float32(step) * direction, -1, 1)
                if guard.accepts(moved):
                    nearer = self._nearest(source, moved, guard)
                    if _norm(nearer - source) < distance:
                        accepted = nearer
                    break
                step /= 2
        return accepted

    def _nearest(self, source: Waveform, accepted: Waveform, guard: Guard) -> Waveform:
        """The accepted audio nearest to ``source`` on the line between them."""
        low, high = 0.0, 1.0
        for _ in range(self.halvings):
            middle = (low + high) / 2
            if guard.accepts(source + np.float32(middle) * (accepted - source)):
                high = middle
            else:
                low = middle
        return source + np.float32(high) * (accepted - source)

    def _direction(self, accepted: Waveform, distance: float, guard: Guard) -> Waveform:
        count = len(accepted)
        noises: list[npt.NDArray[np.float32]] = []
        answers: list[float] = []
        radius = np.float32(distance / np.sqrt(count) / 4)
        for _ in range(self.samples):
            noise = guard.rng.standard_normal(count, np.float32)
            noises.append(noise)
            answers.append(1.0 if guard.accepts(np.clip(accepted + radius * noise, -1, 1)) else -1)
        weights = np.array(answers, np.float32) - np.float32(np.mean(answers))
        if not weights.any():
            weights += np.float32(answers[0])
        direction = np.tensordot(weights, np.stack(noises), 1).astype(np.float32)
        return direction / np.float32(max(_norm(direction), 1e-12))


def _score(audio: Waveform, guard: Guard) -> float | None:
    """The guard's score, None where it refuses to judge."""
    try:
        return guard.score(audio)
    except AudioError:
        return None


def _norm(values: Waveform) -> float:
    return float(np.linalg.norm(values))
