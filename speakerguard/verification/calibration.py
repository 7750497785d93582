"""From scores to decisions: log-likelihood ratios, named thresholds, and the file that keeps them.

All of it is fitted on trials whose speakers the model was not trained on, and belongs to one
model, whose fingerprint it carries. A score is accepted if score >= threshold. The file states
the digest of its own content, so that a damaged digit is no other threshold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from speakerguard import seal, strict
from speakerguard.errors import CalibrationError, UsageError
from speakerguard.files import replace_file

if TYPE_CHECKING:  # what fits needs more than what decides, and import takes time
    from speakerguard.evaluation.metrics import FloatArray, Weights
    from speakerguard.evaluation.trials import ScoreTable

DEFAULT_POINT = "fa-1%"
FALSE_ACCEPT_POINTS = {"fa-1%": 0.01, "fa-0.1%": 0.001}
LEAST_ERRORS = 3  # expected at a point, below which its threshold is a guess
CUSTOM = "custom"  # what the operating point of a threshold of one's own is called
RIDGE = 1e-6  # on the squared scale, scores in standard deviations; bounds separable data only


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


def fit(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    p_target: float = 0.05,
    weights: Weights = None,
) -> Calibration:
    """Affine calibration by prior-weighted logistic regression.

    Minimises the cross-entropy of the posterior at prior ``p_target``, each class weighing as
    much as its prior, however many trials it has (Brümmer and du Preez, Computer Speech and
    Language 20, 2006; Brümmer's FoCal). The prior says where the map should be best. The
    problem is convex; :data:`RIDGE` keeps the scale finite where the classes do not overlap.

    Args:
        targets, nontargets: scores (n,) and (m,), higher for more alike.
        weights: of the targets (n,) and of the non-targets (m,), at least 0, within their class;
            :func:`balanced_weights` makes those that give each source the same say.

    Raises:
        UsageError: a class is empty, a score or weight is not finite, the prior is not between 0
            and 1, or targets do not score higher than non-targets.

    >>> calibration = fit([0.5, 0.7, 0.9], [0.1, 0.3, 0.6])
    >>> calibration.scale > 0, calibration.llr(0.9) > 0 > calibration.llr(0.1)
    (True, True)
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    from speakerguard.evaluation.metrics import checked_scores, checked_weights

    if not 0 < p_target < 1:
        raise UsageError(f"The prior is {p_target}; give one between 0 and 1.")
    target, nontarget = checked_scores(targets, "target"), checked_scores(nontargets, "non-target")
    scores = np.concatenate([target, nontarget])
    sign = np.repeat([1.0, -1.0], [len(target), len(nontarget)])
    if weights is None:
        weights = np.ones(len(target)), np.ones(len(nontarget))
    shares = [checked_weights(weights[0], len(target)), checked_weights(weights[1], len(nontarget))]
    share = np.concatenate(
        [p_target * shares[0] / shares[0].sum(), (1 - p_target) * shares[1] / shares[1].sum()]
    )
    centre, spread = scores.mean(), scores.std()
    if scores.min() == scores.max():
        raise UsageError("All scores are equal, so there is nothing to calibrate.")
    features = np.stack([(scores - centre) / spread, np.ones(len(scores))])
    ridge = np.array([RIDGE, 0.0])
    prior = logit(p_target)

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (line @ features + prior)
        value = share @ np.logaddexp(0, -margin) + ridge @ line**2 / 2
        return float(value), features @ (-share * sign * expit(-margin)) + ridge * line

    def curvature(line: FloatArray) -> FloatArray:
        posterior = expit(line @ features + prior)
        bend = share * posterior * (1 - posterior)
        hessian: FloatArray = (features * bend) @ features.T + np.diag(ridge)
        return hessian

    options = {"gtol": 1e-10}
    found = minimize(
        loss, np.zeros(2), jac=True, hess=curvature, method="trust-exact", options=options
    )
    scale = float(found.x[0] / spread)
    if scale <= 0:
        raise UsageError(
            "Targets do not score higher than non-targets, so no threshold separates them. Check "
            "the labels of the trials, and the model."
        )
    return Calibration(scale, float(found.x[1] - scale * centre))


def operating_points(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    weights: Weights = None,
    own: Sequence[str] = (),
) -> dict[str, OperatingPoint]:
    """The thresholds ``fa-1%``, ``fa-0.1%``, ``eer`` and ``own`` ones, with their measured rates.

    ``fa-x%`` is the smallest threshold at which the measured share of accepted non-targets is
    at most x. With fewer than 1 / x non-targets that share is 0. ``fr-x%`` is the largest at which
    the share of rejected targets is at most x. ``weights`` are as in
    :func:`fit`: without them, a source with most of the trials sets the threshold alone.

    Raises:
        UsageError: a class is empty, a score or weight is not finite, an own point is called
            otherwise, or there are too few trials to know it.

    >>> operating_points([0.5, 0.7, 0.9], [0.1, 0.3, 0.6])["fa-1%"].p_miss
    0.3333333333333333
    """
    from speakerguard.evaluation.metrics import det_curve

    curve = det_curve(targets, nontargets, weights)
    limits = {name: ("fa", share) for name, share in FALSE_ACCEPT_POINTS.items()}
    for given in own:
        name, kind, share = own_point(given)
        trials = len(np.asarray(nontargets if kind == "fa" else targets))
        if name not in limits and trials * share < LEAST_ERRORS:
            whom = "different speakers" if kind == "fa" else "the same speaker"
            raise UsageError(
                f"{name} cannot be learnt from {trials} trials of {whom}: with fewer than "
                f"{math.ceil(LEAST_ERRORS / share)} it is a guess. Use a longer list, or another "
                "point."
            )
        limits[name] = kind, share
    thresholds = {}
    for name, (kind, share) in limits.items():
        limit = share * (1 + 1e-9)  # sums of weights are inexact
        if kind == "fa":
            index = int(np.argmax(curve.p_fa <= limit))
        else:
            index = int(np.flatnonzero(curve.p_miss <= limit)[-1])
        thresholds[name] = float(curve.thresholds[index])
    thresholds["eer"] = curve.eer().threshold
    points = {}
    for name, threshold in thresholds.items():
        p_miss, p_fa = curve.rates_at(threshold)
        points[name] = OperatingPoint(name, threshold, p_fa, p_miss)
    return points


def own_point(text: str) -> tuple[str, str, float]:
    """Name, kind (``fa`` or ``fr``) and share of an operating point of one's own.

    Raises:
        UsageError: it is not called so, or not above 0 % and under 50.

    >>> own_point("fa-0.50%")
    ('fa-0.5%', 'fa', 0.005)
    """
    found = re.fullmatch(r"(fa|fr)-(\d{1,3}(?:\.\d{1,9})?)%", text)
    if not found or not 0 < (percent := float(found[2])) < 50:
        raise UsageError(
            f"an operating point {text!r}: say fa-X% for the share of strangers accepted or fr-X% "
            "for that of owners rejected, X above 0 and under 50, such as fa-0.5%."
        )
    return f"{found[1]}-{percent:.9g}%", found[1], percent / 100


def unsure(file: CalibrationFile) -> list[str]:
    """Points whose errors were too few in these trials for the rate to be known."""
    trials = file.provenance.nontargets
    return [name for name, share in FALSE_ACCEPT_POINTS.items() if trials * share < LEAST_ERRORS]


def balanced_weights(groups: Sequence[str]) -> FloatArray:
    """Trial weights (n,) under which each group, such as a source, weighs 1 in all.

    Give the groups of one class at a time: a group has other numbers of targets than of
    non-targets.

    >>> balanced_weights(["vctk", "vctk", "mls"]).tolist()
    [0.5, 0.5, 1.0]
    """
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights: FloatArray = 1.0 / counts[index]
    return weights


def source_weights(table: ScoreTable) -> tuple[FloatArray, FloatArray]:
    """Weights of a table's targets (n,) and non-targets (m,) that let every source count alike."""
    from speakerguard.sound.corpus import source_of

    sources = np.array([source_of(name) for name in table.enrol])
    return (
        balanced_weights(sources[table.labels == "target"].tolist()),
        balanced_weights(sources[table.labels == "nontarget"].tolist()),
    )


def calibrate(
    table: ScoreTable,
    model: str,
    trials: str,
    p_target: float = 0.05,
    weights: Weights = None,
    own: Sequence[str] = (),
) -> CalibrationFile:
    """Everything that a score table says about a model's decisions, ready to be saved.

    Args:
        table: scored trials; spoofs are left aside.
        model: fingerprint of what made the scores.
        trials: name of the trial list, for the record.
        p_target, weights: see :func:`fit`.
        own: further operating points; see :func:`operating_points`.

    Raises:
        UsageError: as :func:`fit` and :func:`operating_points`.
    """
    from speakerguard.sound.corpus import speaker_of

    targets, nontargets = table.targets, table.nontargets
    return CalibrationFile(
        model=model,
        calibration=fit(targets, nontargets, p_target, weights),
        points=operating_points(targets, nontargets, weights, own),
        default=DEFAULT_POINT,
        provenance=Provenance(
            trials=trials,
            scores_sha256=sha256(table.text().encode()).hexdigest(),
            targets=len(targets),
            nontargets=len(nontargets),
            speakers=len({speaker_of(name) for name in (*table.enrol, *table.test)}),
            created=datetime.now(UTC).date().isoformat(),
        ),
    )
