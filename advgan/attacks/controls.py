"""What every attack is held against: honest speech, and changes that aim at nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from advgan.attacks.contract import Attack, Budget, Family, Label, Voice
from advgan.victim.claim import Guard, Knowledge
from speakerguard.sound.audio import Waveform

if TYPE_CHECKING:
    pass


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
