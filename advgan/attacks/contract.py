"""What an attack is. Whoever writes one finds here what it needs.

An attack is a small pydantic model: its fields are its parameters, so that a suite file is checked
against them. It gets a source (who attacks), a target (a recording of whom to be taken for) and a
guard for one claim, and gives the audio to present. It never sees the clips that are enrolled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from advgan.victim.claim import Guard, Knowledge
from advgan.victim.plugins import NotRunError, build, discover
from speakerguard.sound.audio import Waveform

__all__ = (
    "Attack", "Budget", "Family", "Knowledge", "Label", "NotRunError", "Voice", "build", "discover",
)  # fmt: skip

Family = Literal["control", "conversion", "gradient", "query", "physical"]
Label = Literal["target", "nontarget", "spoof"]
Voice = Literal["source", "target", "other"]


@dataclass(frozen=True)
class Budget:
    """What an attack may spend; None where a limit does not apply.

    Attributes:
        epsilon: largest change of a sample, full scale is 1.
        snr: least ratio of source to change, in dB.
        queries: most questions put to the guard.
        target_seconds: most speech of the target that is used.
    """

    epsilon: float | None = None
    snr: float | None = None
    queries: int | None = None
    target_seconds: float | None = None


class Attack(BaseModel, ABC):
    """One way to be accepted as somebody else. Its fields are its parameters.

    Attributes:
        name: as suites and entry points have it.
        family: what kind of attack it is; controls are no attacks.
        knowledge: what it must know.
        label: what its audio is: ``target`` and ``nontarget`` are bona fide speech.
        uses_gradient: whether a defence can be attacked through (see ``adaptive`` in a suite).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    family: ClassVar[Family]
    knowledge: ClassVar[Knowledge]
    label: ClassVar[Label] = "spoof"
    uses_gradient: ClassVar[bool] = False

    @abstractmethod
    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        """The audio to present, float32 (n,), 16 kHz.

        Args:
            source: speech of the attacker, float32 (n,), 16 kHz, in [-1, 1].
            target: speech of the target that the attacker has, not what was enrolled.
            guard: the claim, and as much of the verifier as there is to touch.

        Raises:
            NotRunError: it cannot run here, for want of weights or data.
        """

    @property
    def budget(self) -> Budget:
        """What it may spend."""
        return Budget()

    @property
    def voice(self) -> Voice:
        """Whose speech, beside the target's, its audio hangs on: intervals draw both.

        A parameter ``of`` says so where there is one.
        """
        return getattr(self, "of", "source")

    @property
    def title(self) -> str:
        """Name and those parameters that were set: what tells two of a kind apart."""
        named = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                 for key, value in sorted(self.parameters.items())]  # fmt: skip
        return f"{self.name}[{','.join(named)}]" if named else self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields that were set."""
        return self.model_dump(mode="json", exclude_unset=True)
