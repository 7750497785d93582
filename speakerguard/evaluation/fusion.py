"""How much each of several models should say: weights for :mod:`speakerguard.embedders.fused`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.evaluation.calibrate import source_weights
from speakerguard.evaluation.trials import ScoreTable

LEAST = 1e-3  # of the largest weight: what counts for less is as good as left out


def fusion_weights(
    conditions: Sequence[Sequence[ScoreTable]], p_target: float = 0.05
) -> npt.NDArray[np.float64]:
    """Weights (members,), the largest 1, by logistic regression on the members' scores.

    The weights are those that make the sum of weighted scores, with an offset for each condition,
    the best log-likelihood ratio: they minimise the cross-entropy at prior ``p_target``, every
    condition alike, and within one every source alike (Brümmer et al. 2007). None is negative.

    Args:
        conditions: for each condition the scores that each member gives to one list of trials.

    Raises:
        UsageError: the members scored different trials, or no condition has both kinds.
    """
    from scipy.optimize import minimize
    from scipy.special import logit

    prior = float(logit(p_target))
    parts = [_part(tables, p_target) for tables in conditions]
    if not parts:
        raise UsageError("fusing needs scores in one condition or more.")
    members = len(conditions[0])

    def loss(values: npt.NDArray[np.float64]) -> float:
        total = 0.0
        for offset, (scores, sign, share) in zip(values[members:], parts, strict=True):
            margin = sign * (np.exp(values[:members]) @ scores + offset + prior)
            total += float(share @ np.logaddexp(0, -margin))
        return total

    start = np.concatenate([np.full(members, np.log(10 / members)), np.zeros(len(parts))])
    found = minimize(loss, start, method="L-BFGS-B").x[:members]
    weights: npt.NDArray[np.float64] = np.exp(found - found.max())
    return np.where(weights < LEAST, 0.0, weights)


def _part(
    tables: Sequence[ScoreTable], p_target: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores (members, n), signs (n,) and shares (n,) of one condition's trials."""
    first = tables[0]
    if any((t.enrol, t.test) != (first.enrol, first.test) for t in tables):
        raise UsageError("members can be fused by scores of the same trials alone; these differ.")
    target, nontarget = first.labels == "target", first.labels == "nontarget"
    if not (target.any() and nontarget.any()):
        raise UsageError("fusing needs trials of the same and of different speakers.")
    share = np.zeros(len(first.labels))
    for of_class, weights, prior in zip(
        (target, nontarget), source_weights(first), (p_target, 1 - p_target), strict=True
    ):
        share[of_class] = prior * weights / weights.sum()
    return np.stack([table.scores for table in tables]), np.where(target, 1.0, -1.0), share
