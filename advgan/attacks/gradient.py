"""Attacks that follow the gradient of the score through the network and its front end.

Each adds a small perturbation to the source's own speech. Its size is bounded by ``epsilon`` (the
largest change of a sample) or by ``snr`` (dB of source over perturbation). With ``transforms``
every step averages over so many random rooms, codecs and noises, so that the attack outlives
them: expectation over transformation (Athalye et al. 2018, arXiv 1707.07397).
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from advgan.attacks.contract import Attack, Budget, Family
from advgan.victim.channels import random_transform
from advgan.victim.claim import Guard, Knowledge
from speakerguard.sound.audio import SAMPLE_RATE, Waveform


class GradientAttack(Attack):
    """A bounded perturbation; exactly one of ``epsilon`` and ``snr`` bounds it.

    Attributes:
        epsilon: largest change of a sample, full scale is 1.
        snr: dB of source over perturbation, at least.
        transforms: random transformations averaged over at each step; 0 attacks the audio as is.
    """

    family: ClassVar[Family] = "gradient"
    knowledge: ClassVar[Knowledge] = Knowledge.WEIGHTS
    uses_gradient: ClassVar[bool] = True

    epsilon: float | None = Field(default=None, gt=0, le=1)
    snr: float | None = Field(default=None, ge=-20, le=90)
    transforms: int = Field(default=0, ge=0, le=32)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.epsilon is None) == (self.snr is None):
            raise ValueError("give epsilon or snr, one of them")
        return self

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(epsilon=self.epsilon, snr=self.snr)

    def gradient(self, audio: Tensor, guard: Guard) -> tuple[Tensor, Tensor]:
        """Score (B,) and its gradient (B, n) at ``audio`` (B, n)."""
        audio = audio.detach().requires_grad_()
        received = audio
        if self.transforms:
            drawn = [random_transform(guard.rng) for _ in range(self.transforms)]
            received = torch.cat([transform(audio) for transform in drawn])
        scores = guard.similarity(received)
        (slope,) = torch.autograd.grad(scores.sum(), audio)
        return scores.detach().view(-1, len(audio)).mean(dim=0), slope

    def step(self, slope: Tensor, source: Tensor, size: float) -> Tensor:
        """The change (B, n) within ``size`` of the bound that raises the score most."""
        if self.epsilon is not None:
            return size * self.epsilon * slope.sign()
        length = slope.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return size * self.radius(source) * slope / length

    def bounded(self, change: Tensor, source: Tensor) -> Tensor:
        """``change`` (B, n) brought within the bound, and within what full scale leaves."""
        if self.epsilon is not None:
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            length = change.norm(dim=1, keepdim=True).clamp(min=1e-12)
            change = change * (self.radius(source) / length).clamp(max=1.0)
        return (source + change).clamp(-1, 1) - source

    def radius(self, source: Tensor) -> Tensor:
        """Norm that ``snr`` allows a perturbation of ``source`` (B, n): (B, 1)."""
        return source.norm(dim=1, keepdim=True) * 10 ** (-(self.snr or 0.0) / 20)


class Fgsm(GradientAttack):
    """One step along the gradient's sign (Goodfellow et al. 2015, arXiv 1412.6572)."""

    name: ClassVar[str] = "fgsm"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        clean = torch.from_numpy(source)[None]
        _, slope = self.gradient(clean, guard)
        return _added(clean, self.bounded(self.step(slope, clean, 1.0), clean))


class Pgd(GradientAttack):
    """Many small steps, each brought back within the bound (Madry et al. 2018, arXiv 1706.06083).

    Attributes:
        steps: how many.
        size: of a step, as a part of the bound.
    """

    name: ClassVar[str] = "pgd"
    steps: int = Field(default=10, ge=1, le=1000)
    size: float = Field(default=0.25, gt=0, le=1)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        clean = torch.from_numpy(source)[None]
        change, best, highest = torch.zeros_like(clean), torch.zeros_like(clean), -np.inf
        for _ in range(self.steps):
            score, slope = self.gradient(clean + change, guard)
            if float(score) > highest:
                highest, best = float(score), change
            change = self.bounded(change + self.step(slope, clean, self.size), clean)
        with torch.no_grad():
            last = float(guard.similarity(clean + change))
        return _added(clean, change if last >= highest or self.transforms else best)


class MarginAttack(GradientAttack):
    """As little change as takes the score over the threshold by ``margin``, a cosine.

    Minimises power of the change plus a hinge on the missing score, by Adam, and keeps the
    smallest change that sufficed: Carlini and Wagner 2017 (arXiv 1608.04644) with the verifier's
    threshold in place of a class. The weight of the hinge, which is in cosines, grows until it
    suffices.
    """

    name: ClassVar[str] = "margin"
    steps: int = Field(default=30, ge=1, le=10_000)
    margin: float = Field(default=0.02, ge=0, le=1)
    rate: float = Field(default=0.1, gt=0, le=1)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        clean = torch.from_numpy(source)[None]
        power = clean.square().mean().clamp(min=1e-12)
        bound = float(self.epsilon or self.radius(clean) / np.sqrt(len(source)))
        change = torch.zeros_like(clean)
        first, second = torch.zeros_like(clean), torch.zeros_like(clean)
        kept, least, weight = change, np.inf, 1.0
        for count in range(1, self.steps + 1):
            score, slope = self.gradient(clean + change, guard)
            missing = guard.threshold - float(score) + self.margin
            size = float(change.square().mean() / power)
            if missing <= 0 and size < least:
                kept, least = change, size
            weight *= 1.0 if missing <= 0 else 1.1
            descent = 2 * change / (power * len(source))
            if missing > 0:
                descent = descent - weight * slope
            first = 0.9 * first + 0.1 * descent
            second = 0.999 * second + 0.001 * descent.square()
            move = first / (1 - 0.9**count) / ((second / (1 - 0.999**count)).sqrt() + 1e-12)
            change = self.bounded(change - self.rate * bound * move, clean)
        return _added(clean, kept if np.isfinite(least) else change)


class Universal(GradientAttack):
    """One perturbation for any words: trained on strangers' speech, then added to the source.

    It aims at one profile and hears no source while it is made (Moosavi-Dezfooli et al. 2017,
    arXiv 1610.08401; for speakers, Xie et al. 2021, arXiv 2105.09022). It repeats itself where
    the source is longer.

    Attributes:
        strangers: clips to train on; steps: rounds over them; seconds: its length.
    """

    name: ClassVar[str] = "universal"
    strangers: int = Field(default=8, ge=1, le=1000)
    steps: int = Field(default=8, ge=1, le=1000)
    seconds: float = Field(default=2.0, gt=0.1, le=20)
    size: float = Field(default=0.2, gt=0, le=1)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        through = guard.defence.title if guard.defence else ""
        key = (self.title, through, guard.profile.tobytes())
        if key not in guard.memory:
            guard.memory[key] = self._trained(guard)
        clean = torch.from_numpy(source)[None]
        change = torch.from_numpy(np.resize(guard.memory[key], len(source)))[None]
        return _added(clean, self.bounded(change, clean))

    def _trained(self, guard: Guard) -> Waveform:
        seed = zlib.crc32(guard.profile.tobytes())  # not the case's: cases share what is trained
        guard = replace(guard, rng=np.random.default_rng(seed))
        count = int(self.seconds * SAMPLE_RATE)
        strangers = guard.training_speech(self.strangers)
        clips = torch.stack([torch.from_numpy(np.resize(clip, count)) for clip in strangers])
        change = torch.zeros(1, count)
        for _ in range(self.steps):
            for batch in (clips[at : at + 4] for at in range(0, len(clips), 4)):
                shifted = torch.roll(batch, int(guard.rng.integers(count)), dims=1)
                _, slope = self.gradient(shifted + change, guard)
                move = self.step(slope.mean(dim=0, keepdim=True), batch[:1], self.size)
                change = self.bounded(change + move, batch.abs().mean(dim=0, keepdim=True))
        trained: Waveform = change[0].numpy()
        return trained


def _added(clean: Tensor, change: Tensor) -> Waveform:
    audio: Waveform = (clean + change)[0].numpy()
    return audio
