"""What every attack is held against: honest speech, and changes that aim at nobody."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from advgan.attacks.contract import Attack, Budget, Family, Knowledge, Label, Voice
from advgan.victim.claim import Guard
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

if TYPE_CHECKING:
    from advgan.conversion.converter import Copier


class Control(Attack):
    """No attack: shows what the guard does without one."""

    family: ClassVar[Family] = "control"
    knowledge: ClassVar[Knowledge] = Knowledge.NOTHING


class Genuine(Control):
    """The target in person: how many are accepted is the ceiling of any attack."""

    name: ClassVar[str] = "genuine"
    label: ClassVar[Label] = "target"

    @property
    def voice(self) -> Voice:
        """See :attr:`advgan.attacks.contract.Attack.voice`."""
        return "target"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return target


class ZeroEffort(Control):
    """Somebody who claims to be the target and does nothing for it."""

    name: ClassVar[str] = "zero-effort"
    label: ClassVar[Label] = "nontarget"

    @property
    def voice(self) -> Voice:
        """See :attr:`advgan.attacks.contract.Attack.voice`."""
        return "other"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return guard.somebody_else()


class Unconverted(Control):
    """The source as it is: where each attack of the same pair starts from."""

    name: ClassVar[str] = "unconverted"
    label: ClassVar[Label] = "nontarget"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return source


class VocoderCopy(Control):
    """Speech to mel bands and back at its own level, with no conversion in between.

    The vocoder is the one that conversions go through.

    A defence that flags this has found the vocoder, not the attack.
    """

    name: ClassVar[str] = "vocoder-copy"
    of: Literal["source", "target"] = "source"

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        return copy_through_vocoder(source if self.of == "source" else target)


class RandomNoise(Control):
    """The source plus or minus ``epsilon`` at random: a gradient attack's norm without its aim."""

    name: ClassVar[str] = "random-noise"
    epsilon: float = Field(default=0.002, gt=0, le=1)

    @property
    def budget(self) -> Budget:
        """See :class:`advgan.attacks.contract.Budget`."""
        return Budget(epsilon=self.epsilon)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """See :meth:`advgan.attacks.contract.Attack.run`."""
        signs = guard.rng.choice(np.array([-1, 1], np.float32), len(source))
        return np.clip(source + np.float32(self.epsilon) * signs, -1, 1)


@cache
def _copier() -> Copier:
    from advgan.conversion.converter import Copier

    return Copier()


def copy_through_vocoder(waveform: Waveform) -> Waveform:
    """``waveform`` through the attacker's mel bands and vocoder, at its own length."""
    import soxr

    from advgan.conversion.converter import Heard

    copier = _copier()
    wide = copier.convert(Heard("source", waveform))
    copied = soxr.resample(wide, copier.rate, SAMPLE_RATE, "VHQ")
    level = np.linalg.norm(waveform) / max(float(np.linalg.norm(copied)), 1e-9)
    fitted = np.zeros(len(waveform), np.float32)
    count = min(len(waveform), len(copied))
    fitted[:count] = copied[:count] * level
    return np.clip(fitted, -1, 1)
