"""Voice conversion as an attack: adapters of the attacker's trained networks.

Each converts the source towards the target's recording. Where its weights are missing it is not
run, which the report counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import soxr
from pydantic import Field

from advgan.attacks.contract import Attack, Budget, Family
from advgan.attacks.controls import Control
from advgan.conversion.converter import Converter, Copier, PerturbingConverter
from advgan.conversion.fitting import STEPS
from advgan.conversion.recording import Utterance
from advgan.networks import checkpoint
from advgan.victim.claim import Guard, Knowledge
from advgan.victim.plugins import NotRunError
from speakerguard.errors import CheckpointError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform


class Conversion(Attack):
    """AGAIN-VC: the source's words in the target's sound, from one recording.

    Attributes:
        weights: name or folder of the generator.
        seconds: most speech of the target that is used; None for all that is there.
    """

    name: ClassVar[str] = "again-vc"
    family: ClassVar[Family] = "conversion"
    knowledge: ClassVar[Knowledge] = Knowledge.RECORDING

    weights: str = "again-vc"
    seconds: float | None = Field(default=None, gt=0)

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(target_seconds=self.seconds)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        known = target if self.seconds is None else target[: int(self.seconds * SAMPLE_RATE)]
        converter = self._converter()
        sound = converter.convert(Utterance("source", source), Utterance("target", known), guard)
        return _at_guard_rate(sound, converter.rate)

    def _converter(self) -> Converter:
        return _loaded(self.weights)


class FittedConversion(Conversion):
    """AGAIN-VC, and the voice it is given follows the gradient of the score.

    It needs no generator of the guard's own, so it measures any model alike, and adapts to
    defences. See :func:`advgan.conversion.fitting.fit_voice`.

    Attributes:
        steps: gradient steps, of which each is a conversion.
        epsilon: largest change of a sample by a perturbation of the conversion, which follows the
            gradient as well; None for nothing. See :func:`advgan.conversion.fitting.finish`.
    """

    name: ClassVar[str] = "fitted-again-vc"
    knowledge: ClassVar[Knowledge] = Knowledge.WEIGHTS
    uses_gradient: ClassVar[bool] = True

    steps: int = Field(default=STEPS, ge=1, le=1000)
    epsilon: float | None = Field(default=None, gt=0, le=0.1)

    def _converter(self) -> Converter:
        return _loaded(self.weights, self.steps, self.epsilon)


class AdversarialConversion(Conversion):
    """AGAIN-VC trained against the guard and a discriminator."""

    name: ClassVar[str] = "adversarial-again-vc"
    knowledge: ClassVar[Knowledge] = Knowledge.NETWORK
    weights: str = "adversarial"


class PerturbationGan(Attack):
    """A network that adds a small perturbation in one pass (AdvGAN, Xiao et al. 2018).

    It aims at the shipped guard it was trained against, whichever model is judged.

    Attributes:
        weights: name or folder of the perturber.
    """

    name: ClassVar[str] = "perturbation-gan"
    family: ClassVar[Family] = "conversion"
    knowledge: ClassVar[Knowledge] = Knowledge.NETWORK

    weights: str = "perturber"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        sound = _perturber(self.weights).convert(
            Utterance("source", source), Utterance("target", target)
        )
        return np.clip(sound, -1, 1)


@cache
def _loaded(weights: str, steps: int = 0, epsilon: float | None = None) -> Converter:
    with _not_run("generator", weights):
        return Converter(weights, steps=steps, epsilon=epsilon)


@cache
def _perturber(weights: str) -> PerturbingConverter:
    with _not_run("perturber", weights):
        return PerturbingConverter(weights)


@contextmanager
def _not_run(kind: str, weights: str) -> Iterator[None]:
    """A missing or unfit checkpoint is a reason not to run, told without a path."""
    try:
        yield
    except CheckpointError as error:
        if checkpoint.shipped(weights):
            raise NotRunError(str(error)) from None
        raise NotRunError(
            f"no {kind} weights {weights!r}: train them with "
            f"`{checkpoint.KINDS[kind].train} --config`, or name others with `weights`."
        ) from None


def _at_guard_rate(waveform: Waveform, rate: int) -> Waveform:
    narrow: Waveform = soxr.resample(waveform, rate, SAMPLE_RATE, "VHQ")
    return narrow / np.float32(max(1.0, float(np.abs(narrow).max()) / 0.999))


class VocoderCopy(Control):
    """Speech to mel bands and back at its own level, with no conversion in between.

    The vocoder is the one that conversions go through. A defence that flags this has found the
    vocoder, not the attack.
    """

    name: ClassVar[str] = "vocoder-copy"
    of: Literal["source", "target"] = "source"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return copy_through_vocoder(source if self.of == "source" else target)


@cache
def _copier() -> Copier:
    return Copier()


def copy_through_vocoder(waveform: Waveform) -> Waveform:
    """``waveform`` through the attacker's mel bands and vocoder, at its own length."""
    copier = _copier()
    wide = copier.convert(Utterance("source", waveform))
    copied = soxr.resample(wide, copier.rate, SAMPLE_RATE, "VHQ")
    level = np.linalg.norm(waveform) / max(float(np.linalg.norm(copied)), 1e-9)
    fitted = np.zeros(len(waveform), np.float32)
    count = min(len(waveform), len(copied))
    fitted[:count] = copied[:count] * level
    return np.clip(fitted, -1, 1)
