"""Voice conversion as an attack: adapters of the attacker's trained networks.

Each converts the source towards the target's recording. Where its weights are missing it is not
run, which the report counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from advgan.attacks.contract import Attack, Budget, Family, Knowledge, NotRunError
from advgan.attacks.guard import Guard
from speakerguard.audio import SAMPLE_RATE, Waveform


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
        from advgan.mel import MelSpectrogram, from_guard, levelled, to_guard
        from advgan.vocoder import GriffinLim

        generator = _network("generator", self.weights)
        heard = target if self.seconds is None else target[: int(self.seconds * SAMPLE_RATE)]
        mel, vocoder = MelSpectrogram(), GriffinLim()
        with torch.inference_mode():
            source_mel, target_mel = (
                mel(from_guard(torch.from_numpy(levelled(clip))[None])) for clip in (source, heard)
            )
            waveform = to_guard(vocoder(generator(source_mel, target_mel)))[0].numpy()
        peak = max(1.0, float(np.abs(waveform).max()) / 0.999)
        return (waveform / peak).astype(np.float32)


class AdversarialConversion(Conversion):
    """AGAIN-VC trained against the guard and a discriminator."""

    name: ClassVar[str] = "adversarial-again-vc"
    knowledge: ClassVar[Knowledge] = Knowledge.WEIGHTS
    weights: str = "adversarial"


class PerturbationGan(Attack):
    """A network that adds a small perturbation in one pass (AdvGAN, Xiao et al. 2018).

    Attributes:
        weights: name or folder of the perturber.
    """

    name: ClassVar[str] = "perturbation-gan"
    family: ClassVar[Family] = "conversion"
    knowledge: ClassVar[Knowledge] = Knowledge.WEIGHTS

    weights: str = "perturber"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        perturber = _network("perturber", self.weights)
        with torch.inference_mode():
            voice = guard.model.network(torch.from_numpy(target)[None])
            waveform: Waveform = perturber(torch.from_numpy(source)[None], voice)[0].numpy()
        return np.clip(waveform, -1, 1)


@cache
def _network(kind: str, weights: str) -> Any:
    from advgan import checkpoint

    try:
        path = checkpoint.resolve(kind, weights)
    except Exception as error:
        raise NotRunError(f"no {kind} weights: {error}") from None
    return checkpoint.load(kind, path).network
