"""A second opinion: is this real speech at all? Offered by installed packages.

A package names its detectors in the entry-point group ``speakerguard.countermeasures``; each is
called without arguments and gives an object with ``llr``. The verifier itself judges voices only.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from speakerguard.errors import UsageError
from speakerguard.extras import named
from speakerguard.sound.audio import AudioSource

if TYPE_CHECKING:
    from torch import Tensor

GROUP = "speakerguard.countermeasures"


class Countermeasure(Protocol):
    """What tells real speech from made speech."""

    def llr(self, source: AudioSource) -> float:
        """Log-likelihood ratio, natural, of real against made speech; above 0 for real."""


@runtime_checkable
class Differentiable(Countermeasure, Protocol):
    """One that attacks can follow the gradient of, and are made to: the stricter test."""

    def llr_of(self, speech: Tensor) -> Tensor:
        """As ``llr``, with gradient: speech (n,) at 16 kHz without its silences to a scalar."""


@named()
def load(name: str) -> Countermeasure:
    """The countermeasure of this name.

    Raises:
        UsageError: no installed package offers it; the message lists those there are.
        CheckpointError: its weights are missing.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(f"no countermeasure {name!r}; installed: {known}.")
    made: Countermeasure = found[name].load()()
    return made
