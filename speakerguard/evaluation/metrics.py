"""How well scores separate speakers: exact under ties, and independent of the order of trials.

Everything follows from one curve. :func:`det_curve` sorts the scores of both classes once;
each metric is then a property of the :class:`DetCurve`, and a function of the same name takes
scores directly.

Throughout, a trial is accepted if score >= threshold, and a threshold is the smallest float64
that gives its decisions: just above the highest score it rejects. The ASVspoof 5 and a-DCF
packages print that score itself, which is the same number to 15 digits. Compare in float64:
rounded to float32, a threshold can fall back on the score that it should reject.

Trials may carry weights: 2.0 counts a trial twice. All metrics here can be weighted.
Metrics with a third class, spoofs, are in :mod:`speakerguard.evaluation.spoof_metrics`, confidence
intervals in :mod:`speakerguard.evaluation.bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError

FloatArray = npt.NDArray[np.float64]
EerMethod = Literal["nearest", "interpolated", "convex_hull"]
Weights = tuple[npt.ArrayLike, npt.ArrayLike] | None  # of the targets, of the non-targets


class EER(NamedTuple):
    """Equal error rate, and the threshold with the two rates nearest to each other."""

    rate: float
    threshold: float
    p_miss: float
    p_fa: float


class Cost(NamedTuple):
    """A normalised detection cost and the threshold it is reached at."""

    value: float
    threshold: float


@dataclass(frozen=True, eq=False)
class DetCurve:
    """Both error rates at every threshold that makes a difference.

    Attributes:
        thresholds: float64 (k + 1,), rising: the lowest of k distinct scores, which accepts all,
            then for each score the next number above it, which rejects that score.
        p_miss: share of targets with score < threshold, rising from 0 to 1.
        p_fa: share of non-targets with score >= threshold, falling from 1 to 0.
    """

    thresholds: FloatArray
    p_miss: FloatArray
    p_fa: FloatArray

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """(p_miss, p_fa) when scores >= ``threshold`` are accepted."""
        if np.isnan(threshold):
            raise UsageError("The threshold is not a number. Give one in the unit of the scores.")
        index = np.searchsorted(self.thresholds[1:], threshold, side="right")
        return float(self.p_miss[index]), float(self.p_fa[index])

    def eer(self, method: EerMethod = "nearest") -> EER:
        """See :func:`eer`."""
        difference = self.p_miss - self.p_fa
        index = int(np.argmin(np.abs(difference).round(12)))  # rounded, so that ties are ties
        p_miss, p_fa = float(self.p_miss[index]), float(self.p_fa[index])
        if method == "nearest":
            rate = (p_miss + p_fa) / 2
        elif method == "interpolated":
            rate = _crossing(self.p_miss, self.p_fa)
        elif method == "convex_hull":
            target, nontarget = self._pooled()
            rate = _crossing(_from_zero(target), 1 - _from_zero(nontarget))
        else:
            raise UsageError(f"No EER method {method!r}: nearest, interpolated or convex_hull.")
        return EER(rate, float(self.thresholds[index]), p_miss, p_fa)

    def dcf_at(
        self, threshold: float, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> float:
        """See :func:`dcf_at`."""
        miss, fa = _costs(p_target, c_miss, c_fa)
        p_miss, p_fa = self.rates_at(threshold)
        return (miss * p_miss + fa * p_fa) / min(miss, fa)

    def min_dcf(self, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> Cost:
        """See :func:`min_dcf`."""
        miss, fa = _costs(p_target, c_miss, c_fa)
        costs = (miss * self.p_miss + fa * self.p_fa) / min(miss, fa)
        index = int(np.argmin(costs))
        return Cost(float(costs[index]), float(self.thresholds[index]))

    def act_dcf(self, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """See :func:`act_dcf`."""
        threshold = bayes_threshold(p_target, c_miss, c_fa)
        return self.dcf_at(threshold, p_target, c_miss, c_fa)

    def cllr(self) -> float:
        """See :func:`cllr`."""
        llrs = np.nextafter(self.thresholds[1:], -np.inf)  # the scores again
        target, nontarget = self._masses()
        bits = target @ np.logaddexp(0, -llrs) + nontarget @ np.logaddexp(0, llrs)
        return float(bits / np.log(4))

    def min_cllr(self) -> float:
        """See :func:`min_cllr`."""
        from scipy.special import rel_entr

        target, nontarget = self._pooled()
        both = target + nontarget
        bits = rel_entr(target, both) + rel_entr(nontarget, both)  # none above 0
        return float(np.abs(bits).sum() / np.log(4))

    def _masses(self) -> tuple[FloatArray, FloatArray]:
        """Share of each class at each distinct score: two arrays (k,)."""
        return np.diff(self.p_miss), -np.diff(self.p_fa)

    def _pooled(self) -> tuple[FloatArray, FloatArray]:
        """The same after pooling adjacent violators, so that the likelihood ratio rises.

        The pools are the edges of the convex hull of the ROC (Fawcett and Niculescu-Mizil,
        PAV and the ROC convex hull, Machine Learning 68, 2007).
        """
        from scipy.optimize import isotonic_regression

        target, nontarget = self._masses()
        present = target + nontarget > 0  # a weight of zero leaves a score without trials
        target, nontarget = target[present], nontarget[present]
        both = target + nontarget
        starts = isotonic_regression(target / both, weights=both).blocks[:-1]
        return np.add.reduceat(target, starts), np.add.reduceat(nontarget, starts)


class Ranking:
    """Scores sorted once, so that each set of weights gives its curve in linear time."""

    def __init__(self, scores: FloatArray, is_target: npt.NDArray[np.bool_]) -> None:
        self.order = np.argsort(scores, kind="stable")
        self.is_target = is_target[self.order]
        ranked = scores[self.order]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        self.bounds = np.append(starts, len(ranked))  # trials below each threshold
        self.thresholds = steps(ranked[starts])

    def curve(self, weights: FloatArray) -> DetCurve:
        """``weights`` (n,) are in the order that the scores were given in."""
        ranked = weights[self.order]
        target = _from_zero(ranked * self.is_target)[self.bounds]
        nontarget = _from_zero(ranked * ~self.is_target)[self.bounds]
        p_fa = (nontarget[-1] - nontarget) / nontarget[-1]
        return DetCurve(self.thresholds, target / target[-1], p_fa)


def det_curve(
    targets: npt.ArrayLike, nontargets: npt.ArrayLike, weights: Weights = None
) -> DetCurve:
    """The error rates of scores at every threshold, accepting score >= threshold.

    Args:
        targets, nontargets: scores (n,) and (m,), higher for more alike.
        weights: of the targets (n,) and of the non-targets (m,), at least 0; None is 1 each.

    Raises:
        UsageError: a class is empty or has no weight, or a score or weight is not finite.

    >>> curve = det_curve([0.7, 0.9], [0.1, 0.7])
    >>> curve.thresholds.round(9).tolist(), curve.p_miss.tolist(), curve.p_fa.tolist()
    ([0.1, 0.1, 0.7, 0.9], [0.0, 0.0, 0.5, 1.0], [1.0, 0.5, 0.0, 0.0])
    """
    classes = [checked_scores(targets, "target"), checked_scores(nontargets, "non-target")]
    is_target = np.repeat([True, False], [len(scores) for scores in classes])
    ranking = Ranking(np.concatenate(classes), is_target)
    if weights is None:
        return ranking.curve(np.ones(len(is_target)))
    checked = [
        checked_weights(given, len(scores)) for given, scores in zip(weights, classes, strict=True)
    ]
    return ranking.curve(np.concatenate(checked))


def error_rates(
    targets: npt.ArrayLike, nontargets: npt.ArrayLike, threshold: float, weights: Weights = None
) -> tuple[float, float]:
    """(p_miss, p_fa) at a threshold chosen elsewhere, accepting score >= threshold.

    >>> error_rates([0.7, 0.9], [0.1, 0.7], threshold=0.7)
    (0.0, 0.5)
    """
    return det_curve(targets, nontargets, weights).rates_at(threshold)


def eer(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    method: EerMethod = "nearest",
    weights: Weights = None,
) -> EER:
    """The equal error rate, a share and not per cent.

    ``method`` says what to call equal, as the two rates move in steps:

    * ``nearest``: the mean of both rates at the threshold where they differ least, the lower
      threshold if two do. So do the ASVspoof 5 evaluation package and most toolkits.
    * ``interpolated``: where the ROC, its points joined by straight lines, has equal rates.
      So does the SASV 2022 baseline; it differs from the above in the fourth digit.
    * ``convex_hull``: the same on the convex hull of the ROC (Brümmer's ROCCH-EER).

    The threshold and rates returned are those of ``nearest``, whatever the method: the others
    lie between decisions.

    Raises:
        UsageError: as :func:`det_curve`, or no such method.

    >>> eer([3, 6, 8, 9], [1, 2, 5, 7])
    EER(rate=0.25, threshold=5.000000000000001, p_miss=0.25, p_fa=0.25)
    """
    return det_curve(targets, nontargets, weights).eer(method)


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The log-likelihood ratio from which accepting costs less: minus the effective prior's logit.

    >>> round(bayes_threshold(0.01), 4)
    4.5951
    """
    miss, fa = _costs(p_target, c_miss, c_fa)
    return float(np.log(fa / miss))


def dcf_at(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    threshold: float,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    weights: Weights = None,
) -> float:
    """The normalised detection cost at a given threshold; see :func:`min_dcf`."""
    return det_curve(targets, nontargets, weights).dcf_at(threshold, p_target, c_miss, c_fa)


def min_dcf(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    weights: Weights = None,
) -> Cost:
    """The lowest normalised detection cost that any threshold reaches.

    The cost is c_miss·p_target·p_miss + c_fa·(1 - p_target)·p_fa, divided by that of the better
    of accepting and rejecting everyone, so 1 means useless (NIST SRE evaluation plans, section
    3). Of equal costs the lowest threshold is given.

    Raises:
        UsageError: as :func:`det_curve`, or the prior or a cost is out of range.

    >>> min_dcf([3, 6, 8, 9], [1, 2, 5, 7])
    Cost(value=0.5, threshold=7.000000000000001)
    """
    return det_curve(targets, nontargets, weights).min_dcf(p_target, c_miss, c_fa)


def act_dcf(
    target_llrs: npt.ArrayLike,
    nontarget_llrs: npt.ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    weights: Weights = None,
) -> float:
    """The normalised cost of trusting log-likelihood ratios: that at :func:`bayes_threshold`.

    What it is above :func:`min_dcf` is lost by calibration.
    """
    return det_curve(target_llrs, nontarget_llrs, weights).act_dcf(p_target, c_miss, c_fa)


def cllr(
    target_llrs: npt.ArrayLike, nontarget_llrs: npt.ArrayLike, weights: Weights = None
) -> float:
    """Cost of log-likelihood ratios (natural log) over all priors, in bits; 1 says nothing.

    Brümmer and du Preez, Application-independent evaluation of speaker detection, Computer
    Speech and Language 20, 2006, eq. 19.

    >>> cllr([0.0], [0.0])
    1.0
    """
    return det_curve(target_llrs, nontarget_llrs, weights).cllr()


def min_cllr(targets: npt.ArrayLike, nontargets: npt.ArrayLike, weights: Weights = None) -> float:
    """:func:`cllr` after the best rising map of scores to log-likelihood ratios.

    The map comes from pooling adjacent violators; equal scores are one point before that, so
    the order of trials does not matter.

    >>> min_cllr([0.8, 0.9], [0.1, 0.2])
    0.0
    """
    return det_curve(targets, nontargets, weights).min_cllr()


def steps(distinct: FloatArray) -> FloatArray:
    """The thresholds that make a difference to ``distinct``, rising scores: (k,) to (k + 1,)."""
    return np.append(distinct[0], np.nextafter(distinct, np.inf))


def checked_scores(values: npt.ArrayLike, kind: str) -> FloatArray:
    """``values`` as float64 (n,); a UsageError that names the ``kind`` of trial if unusable."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise UsageError(f"The {kind} scores have shape {scores.shape}; give a list, shape (n,).")
    if not len(scores):
        raise UsageError(f"There are no {kind} scores. Both kinds of trial are needed.")
    if not np.isfinite(scores).all():
        where = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise UsageError(f"The {kind} score at index {where} is {scores[where]}. Leave it out.")
    return scores


def checked_weights(values: npt.ArrayLike, count: int) -> FloatArray:
    weights = np.asarray(values, dtype=np.float64)
    if weights.shape != (count,):
        raise UsageError(f"The weights have shape {weights.shape} for {count} trials.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError("Weights must be finite, at least 0, and not all 0 in either class.")
    return weights


def _costs(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """What missing every target and accepting every non-target cost."""
    if not (0 < p_target < 1 and c_miss > 0 and c_fa > 0):
        raise UsageError(
            f"p_target {p_target}, c_miss {c_miss}, c_fa {c_fa}: the prior must lie between 0 "
            "and 1 and costs above 0."
        )
    return c_miss * p_target, c_fa * (1 - p_target)


def _from_zero(parts: FloatArray) -> FloatArray:
    """Running sum that starts with 0: (n,) to (n + 1,)."""
    return np.append(0.0, np.cumsum(parts))


def _crossing(p_miss: FloatArray, p_fa: FloatArray) -> float:
    """The rate at which the curve, points joined by straight lines, has both rates equal."""
    difference = p_miss - p_fa
    after = int(np.argmax(difference >= 0))  # the curve starts at -1 and ends at 1
    below, above = difference[after - 1], difference[after]
    share = -below / (above - below)
    return float(p_miss[after - 1] + share * (p_miss[after] - p_miss[after - 1]))
