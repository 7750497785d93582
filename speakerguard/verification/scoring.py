"""The one place where embeddings become a score, and where the threshold for it comes from.

    profile, probe → cosine → set against strangers, where the model has a cohort → score

Verifying, identifying, calibrating, and whatever attacks a guard or trains against it ask here.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from speakerguard.errors import CheckpointError
from speakerguard.network.checkpoint import CALIBRATION_FILE, NORMALISED_FILE
from speakerguard.verification.cohort import COHORT_FILE, Cohort, Matrix, cosines

if TYPE_CHECKING:
    from speakerguard.verification.calibration import CalibrationFile

COSINE = "cosine"
ABOVE = "cosine above strangers"


class Scoring:
    """How one model's embeddings are compared, and from which score on they are one voice.

    Args:
        folder: where the model's cohort and thresholds lie.
        model: fingerprint of the model.
        normalise: set cosines against the cohort (AS-norm,
            :mod:`speakerguard.verification.cohort`); None does so where there is one, True
            insists, False never does.
    """

    def __init__(self, folder: Path, model: str, normalise: bool | None = None) -> None:
        self.folder, self.model, self.normalise = folder, model, normalise

    @cached_property
    def cohort(self) -> Cohort | None:
        """The strangers that cosines are set against; None where scores are plain cosines.

        Raises:
            CheckpointError: it is damaged, of other weights, or missing though insisted on.
        """
        path = self.folder / COHORT_FILE
        if self.normalise or (self.normalise is None and path.exists()):
            return Cohort.load(path, self.model)
        return None

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score: the model, and the strangers where there are."""
        return f"{self.model}+{self.cohort.fingerprint}" if self.cohort else self.model

    @property
    def unit(self) -> str:
        """What scores are: :data:`COSINE` or :data:`ABOVE`."""
        return ABOVE if self.cohort else COSINE

    def compare(self, enrol: Matrix, test: Matrix) -> npt.NDArray[np.float64]:
        """Scores (n,) of the trials between rows of ``enrol`` and ``test``, both (n, D)."""
        return self.cohort.normalise(enrol, test) if self.cohort else cosines(enrol, test)

    def score(self, profile: Matrix, probe: Matrix) -> float:
        """Score of one trial between embeddings (D,)."""
        return float(self.compare(profile[None], probe[None])[0])

    @property
    def decides_by(self) -> str:
        """Changes with whatever changes a score or a decision.

        Raises:
            CheckpointError: the thresholds are damaged, or of other weights.
        """
        digest = self.calibration.digest if self.calibrated else "uncalibrated"
        return f"{self.fingerprint} {digest}"

    @property
    def calibration_path(self) -> Path:
        """Where the thresholds lie; normalised scores have their own."""
        return self.folder / (NORMALISED_FILE if self.cohort else CALIBRATION_FILE)

    @property
    def calibrated(self) -> bool:
        """Whether there are thresholds; not so after a fresh training."""
        return self.calibration_path.exists()

    @cached_property
    def calibration(self) -> CalibrationFile:
        """Thresholds and likelihood ratios of these scores.

        Raises:
            CheckpointError: there are none, they are damaged, or of other weights.
        """
        from speakerguard.verification.calibration import CalibrationFile

        path = self.calibration_path
        if not self.calibrated:
            plain = " --no-score-norm" if self.normalise is False else ""
            raise CheckpointError(
                f"{self.folder.name} has no thresholds yet for scores in {self.unit} ({path}): run "
                f"`speakerguard calibrate --trials TRIALS --root DIR{plain}` with the same --model."
            )
        found = CalibrationFile.load(path)
        if found.model != self.fingerprint:
            parts = "weights + cohort" if self.cohort else "weights"
            raise CheckpointError(
                f"{path} belongs to {parts} {found.model}, these are {self.fingerprint}: calibrate "
                "again."
            )
        return found
