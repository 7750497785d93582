"""What a model decides by is learnt here: likelihood ratios, thresholds, a cohort of strangers.

:mod:`speakerguard.verification.calibration` and :mod:`speakerguard.verification.cohort` read it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from speakerguard.errors import AudioError, UsageError
from speakerguard.evaluation.metrics import (
    FloatArray,
    Weights,
    checked_scores,
    checked_weights,
    det_curve,
)
from speakerguard.evaluation.trials import ScoreTable
from speakerguard.sound.corpus import source_of, speaker_of
from speakerguard.verification.calibration import (
    DEFAULT_POINT,
    Calibration,
    CalibrationFile,
    OperatingPoint,
    Provenance,
)
from speakerguard.verification.cohort import Cohort, Matrix

if TYPE_CHECKING:
    from speakerguard.verification.verifier import Verifier

FALSE_ACCEPT_POINTS = {"fa-1%": 0.01, "fa-0.1%": 0.001}
LEAST_ERRORS = 3  # expected at a point, below which its threshold is a guess
RIDGE = 1e-6  # on the squared scale, scores in standard deviations; bounds separable data only


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


def gather(
    verifier: Verifier,
    files: Mapping[str, Path],
    most: int = 10,
    progress: Callable[[int], None] | None = None,
) -> tuple[Cohort, list[str]]:
    """One member a speaker: the mean of the embeddings of that speaker's recordings, at length 1.

    Args:
        files: recordings by name; see :func:`speakerguard.sound.corpus.speaker_of`.
        most: recordings of each speaker that are used.
        progress: called with the number of files done.

    Returns:
        The cohort, and why each recording that could not be used was left out.

    Raises:
        UsageError: fewer than two speakers can be used.
    """
    sums: dict[str, Matrix] = {}
    taken: Counter[str] = Counter()
    left_out = []
    for done, (name, path) in enumerate(files.items(), start=1):
        speaker = speaker_of(name)
        if taken[speaker] < most:
            try:
                (embedding,) = verifier.embed([path])
            except AudioError as error:
                left_out.append(str(error))
            else:
                taken[speaker] += 1
                sums[speaker] = sums.get(speaker, 0) + embedding
        if progress:
            progress(done)
    rows = np.stack([sums[speaker] for speaker in sorted(sums)]) if sums else np.zeros((0, 1))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return Cohort((rows / length).astype(np.float32), verifier.fingerprint), left_out
