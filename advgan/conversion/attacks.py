"""Voice conversion as an attack: adapters of the attacker's trained networks.

Each converts the source towards the target's recording. Where its weights are missing it is not
run, which the report counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import soxr
from pydantic import Field

from advgan.attacks.contract import Attack, Budget, Family, Knowledge, NotRunError
from advgan.conversion.fitting import STEPS
from advgan.victim.claim import Guard
from speakerguard.errors import CheckpointError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

if TYPE_CHECKING:
    from advgan.conversion.converter import Converter, PerturbingConverter


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
        from advgan.conversion.converter import Heard

        heard = target if self.seconds is None else target[: int(self.seconds * SAMPLE_RATE)]
        converter = self._converter()
        made = converter.convert(Heard("source", source), Heard("target", heard), guard)
        return _at_guard_rate(made, converter.rate)

    def _converter(self) -> Converter:
        return _made(self.weights)


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
        return _made(self.weights, self.steps, self.epsilon)


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
        from advgan.conversion.converter import Heard

        made = _perturber(self.weights).convert(Heard("source", source), Heard("target", target))
        return np.clip(made, -1, 1)


@cache
def _made(weights: str, steps: int = 0, epsilon: float | None = None) -> Converter:
    from advgan.conversion.converter import Converter

    with _not_run("generator", weights):
        return Converter(weights, steps=steps, epsilon=epsilon)


@cache
def _perturber(weights: str) -> PerturbingConverter:
    from advgan.conversion.converter import PerturbingConverter

    with _not_run("perturber", weights):
        return PerturbingConverter(weights)


@contextmanager
def _not_run(kind: str, weights: str) -> Iterator[None]:
    """A missing or unfit checkpoint is a reason not to run, told without a path."""
    from advgan.networks import checkpoint

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
