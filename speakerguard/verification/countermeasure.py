"""A second opinion: is this real speech at all? Offered by installed packages.

A package names its detectors in the entry-point group ``speakerguard.countermeasures``; each is
called without arguments and gives an object with ``llr``. A verifier that was given one accepts
only what both let pass.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from speakerguard.errors import UsageError
from speakerguard.extras import named
from speakerguard.sound.audio import AudioSource
from speakerguard.sound.speech import Speech

if TYPE_CHECKING:
    from torch import Tensor

GROUP = "speakerguard.countermeasures"
REAL = 0.0  # least log-likelihood ratio of what is taken for real speech


class Countermeasure(Protocol):
    """What tells real speech from made speech."""

    def llr(self, source: AudioSource | Speech) -> float:
        """Log-likelihood ratio, natural, of real against made speech; above 0 for real.

        Args:
            source: a recording; or the speech that a verifier found in one, which is so read once.
        """


@runtime_checkable
class Differentiable(Countermeasure, Protocol):
    """One that attacks can follow the gradient of, and are made to: the stricter test."""

    def llr_of(self, speech: Tensor) -> Tensor:
        """As ``llr``, with gradient: speech (n,) at 16 kHz without its silences to a scalar."""


def is_real(llr: float) -> bool:
    """Whether speech of this ratio is taken for real."""
    return llr >= REAL


class SecondOpinion:
    """A countermeasure, and what its answer means for a decision.

    Args:
        given: its name, itself, or None: then there is no second opinion, and no objection.

    Raises:
        UsageError, CheckpointError: as :func:`load`.
    """

    def __init__(self, given: Countermeasure | str | None) -> None:
        self.countermeasure = load(given) if isinstance(given, str) else given
        self.name = given if isinstance(given, str) else type(given).__name__

    def llr(self, source: AudioSource | Speech) -> float | None:
        """As :meth:`Countermeasure.llr`; None where nobody is asked.

        Raises:
            AudioError: the recording cannot be judged.
            UsageError: the countermeasure answers with no number.
        """
        if self.countermeasure is None:
            return None
        llr = float(self.countermeasure.llr(source))
        if math.isnan(llr):
            raise UsageError(f"the countermeasure {self.name} says {llr}, which decides nothing.")
        return llr

    def objection(self, llr: float | None) -> str:
        """Why speech of this ratio must not be accepted; empty where it may be."""
        return "" if llr is None or is_real(llr) else f"{self.name} takes it for made speech"


@named()
def load(name: str) -> Countermeasure:
    """The countermeasure of this name.

    Raises:
        UsageError: no installed package offers it; the message lists those there are.
        CheckpointError: its weights are missing.
    """
    from importlib.metadata import entry_points  # takes long

    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(f"no countermeasure {name!r}; installed: {known}.")
    made: Countermeasure = found[name].load()()
    return made
