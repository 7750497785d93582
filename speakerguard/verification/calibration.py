"""From scores to decisions: log-likelihood ratios, named thresholds, and the file that keeps them.

All of it is fitted on trials whose speakers the model was not trained on, by
:mod:`speakerguard.evaluation.calibrate`, and belongs to one model, whose fingerprint it carries.
A score is accepted if score >= threshold. The file states the digest of its own content, so that a
damaged digit is no other threshold.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from speakerguard import seal, strict
from speakerguard.errors import CalibrationError, UsageError
from speakerguard.files import replace_file

FloatArray = npt.NDArray[np.float64]

DEFAULT_POINT = "fa-1%"
CUSTOM = "custom"  # what the operating point of a threshold of one's own is called


@dataclass(frozen=True)
class Calibration:
    """The affine map llr = scale · score + offset, in natural log units.

    >>> Calibration(scale=20.0, offset=-8.0).llr(0.5)
    2.0
    """

    scale: float
    offset: float

    @overload
    def llr(self, score: float) -> float: ...

    @overload
    def llr(self, score: npt.NDArray[np.floating]) -> FloatArray: ...

    def llr(self, score: float | npt.NDArray[np.floating]) -> float | FloatArray:
        """Log-likelihood ratio of same over different speaker, for a score or an array of them."""
        wide = score.astype(np.float64) if isinstance(score, np.ndarray) else float(score)
        return self.scale * wide + self.offset


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on scores, and the share of errors it made on the calibration trials."""

    name: str
    threshold: float
    p_fa: float
    p_miss: float

    def accepts(self, score: float) -> bool:
        """Whether ``score`` is enough: score >= threshold.

        Raises:
            UsageError: the score is not finite.
        """
        if not math.isfinite(score):
            raise UsageError(f"The score is {score}, so there is nothing to decide.")
        return float(score) >= self.threshold

    def objection(self, score: float, what: str = "score") -> str:
        """Why ``score`` is not accepted; empty where it is.

        Raises:
            UsageError: as :meth:`accepts`.
        """
        if self.accepts(score):
            return ""
        return f"the {what}, {score:.3f}, is under the threshold {self.threshold:.3f}"


@dataclass(frozen=True)
class Provenance:
    """What a calibration was fitted on.

    Attributes:
        trials: name of the trial list.
        scores_sha256: of the score file, as :func:`speakerguard.evaluation.trials.write_scores`
            writes it.
        targets, nontargets, speakers: how many there were; spoofs are not used.
        created: UTC date, YYYY-MM-DD.
    """

    trials: str
    scores_sha256: str
    targets: int
    nontargets: int
    speakers: int
    created: str


@dataclass(frozen=True)
class CalibrationFile:
    """What is stored beside a checkpoint so that its scores become decisions.

    Attributes:
        model: fingerprint of what made the scores, as :attr:`.Scoring.fingerprint` has it.
        calibration: score to log-likelihood ratio.
        points: operating points by name.
        default: the point used when none is asked for.
        provenance: what all this was fitted on.
    """

    model: str
    calibration: Calibration
    points: dict[str, OperatingPoint]
    default: str
    provenance: Provenance

    def point(self, name: str | float | None = None) -> OperatingPoint:
        """The operating point of this name, or the default one.

        Args:
            name: a number is a threshold of one's own, whose error rates nobody knows (NaN).

        Raises:
            UsageError: no such point, with those there are; or a threshold that is not finite.
        """
        if isinstance(name, (int, float)):
            if not math.isfinite(name):
                raise UsageError(f"a threshold of {name}: give a finite number.")
            return OperatingPoint(CUSTOM, float(name), math.nan, math.nan)
        name = self.default if name is None else name
        if name not in self.points:
            known = ", ".join(self.points)
            raise UsageError(
                f"No operating point {name!r}. Choose one of: {known}; or learn it with "
                "`speakerguard calibrate --point`, such as fa-0.5%."
            )
        return self.points[name]

    @property
    def digest(self) -> str:
        """SHA-256 of the content, as JSON, in hex."""
        return sha256(_json(asdict(self)).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes JSON, the digest with it; the file appears whole or not at all."""
        replace_file(path, _json(asdict(self) | {"digest": self.digest}))

    @classmethod
    def load(cls, path: str | Path, sealed: bool = True) -> CalibrationFile:
        """Reads what :meth:`save` wrote.

        Args:
            sealed: False takes a file without digest as well, as earlier versions wrote it.

        Raises:
            CalibrationError: the file is missing or no JSON, a key is unknown, missing or of the
                wrong type, a value is impossible, or the digest is of other content. The message
                names file and key.
        """
        path = Path(path)
        again = "Make it again with `speakerguard calibrate`."
        try:
            content = json.loads(path.read_bytes())
            digest = content.pop("digest", None) if isinstance(content, dict) else None
            file: CalibrationFile = strict.build(cls, content)
        except OSError as error:
            reason = error.strerror or error
            raise CalibrationError(f"{path}: cannot be read ({reason}). {again}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CalibrationError(f"{path}: the file: invalid JSON ({error}). {again}") from error
        except ValueError as error:
            raise CalibrationError(f"{path}: {error}. {again}") from error
        for key, problem in file._problems():
            raise CalibrationError(f"{path}: {key}: {problem}. {again}")
        if digest is None and sealed:
            raise CalibrationError(f"{path}: {seal.UNSEALED} {again}")
        if digest not in (None, file.digest):
            raise CalibrationError(f"{path}: {seal.DAMAGED} {again}")
        return file

    def _problems(self) -> list[tuple[str, str]]:
        """Keys whose values have the right type and yet cannot be."""
        problems = []
        if self.calibration.scale <= 0:
            problems.append(("calibration.scale", "is not above 0"))
        if self.default not in self.points:
            problems.append(("default", f"names no operating point: {self.default!r}"))
        for name, point in self.points.items():
            if point.name != name:
                problems.append((f"points.{name}.name", f"is {point.name!r}"))
            if not (0 <= point.p_fa <= 1 and 0 <= point.p_miss <= 1):
                problems.append((f"points.{name}", "has a rate outside 0 to 1"))
        return problems


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
