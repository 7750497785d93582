"""What an attack is, and how attacks of any package are found.

An attack is a small pydantic model: its fields are its parameters, so that a suite file is checked
against them. It gets a source (who attacks), a target (a recording of whom to be taken for) and a
guard for one claim, and gives the audio to present. It never sees the clips that are enrolled.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from speakerguard.errors import ConfigError, SpeakerguardError, UsageError
from speakerguard.sound.audio import Waveform

if TYPE_CHECKING:
    from advgan.victim.claim import Guard

GROUP = "speakerguard.attacks"

Family = Literal["control", "conversion", "gradient", "query", "physical"]
Label = Literal["target", "nontarget", "spoof"]
Voice = Literal["source", "target", "other"]


class NotRunError(SpeakerguardError):
    """An attack or defence cannot run here; the message says why and what would let it."""


class Knowledge(StrEnum):
    """What an attacker knows of the guard, least first."""

    NOTHING = "nothing"
    RECORDING = "a recording of the target"
    DECISIONS = "decisions of the guard"
    SCORES = "scores of the guard"
    NETWORK = "weights of the guard"
    WEIGHTS = "weights, profile and threshold"


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


@cache
def discover(group: str = GROUP) -> dict[str, Any]:
    """Entry points of a group, by name, sorted.

    Raises:
        UsageError: two packages offer different things of one name.
    """
    found: dict[str, Any] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: e.name):
        if found.setdefault(entry.name, entry).value != entry.value:
            raise UsageError(
                f"two packages call something {entry.name!r} in {group}: "
                f"{found[entry.name].value} and {entry.value}. Rename one, or remove its package."
            )
    return found


def build(name: str, parameters: dict[str, Any], group: str = GROUP) -> Any:
    """The attack (or, of another group, the defence) of this name, with these parameters.

    Raises:
        UsageError: nothing of this name is installed, or it cannot be loaded.
        ConfigError: a parameter is unknown or impossible.

    >>> build("pgd", {"epsilon": 0.002}).title
    'pgd[epsilon=0.002]'
    """
    known = discover(group)
    kind = group.rpartition(".")[2].removesuffix("s")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown {kind} {name!r}.{hint} Installed: {', '.join(known)}.")
    try:
        made = known[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the {kind} {name!r} ({known[name].value}) cannot be loaded: {error}. Reinstall or "
            "remove the package that offers it."
        ) from None
    try:
        return made(**parameters)
    except ValidationError as error:
        raise ConfigError(_explain(f"{kind} {name!r}", made, error)) from None


def _explain(what: str, model: type[BaseModel], error: ValidationError) -> str:
    """A line for each thing that is wrong with the parameters of ``what``."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(map(str, problem["loc"])) or "parameters"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, model.model_fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{what}: unknown parameter {key!r}{hint}")
        else:
            lines.append(f"{what}: {key}: {problem['msg']}, got {problem.get('input')!r}")
    return "\n".join(lines)
