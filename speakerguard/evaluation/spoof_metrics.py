"""How well scores hold against spoofs: SASV error rates, a-DCF, and costs of countermeasures.

Thresholds and ties are as in :mod:`speakerguard.evaluation.metrics`: score >= threshold is
accepted, and a threshold lies just above the highest score it rejects. All scores are higher for
what should
pass: for the same speaker, or for bona fide speech.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import (
    EER,
    Cost,
    EerMethod,
    checked_scores,
    det_curve,
    eer,
    min_dcf,
    steps,
)

TARGET_AMONG_BONAFIDE = 0.99  # ASVspoof 2019, 2021 and 5: of bona fide trials, so many are targets


def spf_eer(targets: npt.ArrayLike, spoofs: npt.ArrayLike, method: EerMethod = "nearest") -> EER:
    """SPF-EER of SASV 2022: targets against spoofs alone."""
    return eer(targets, spoofs, method)


def sasv_eer(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    spoofs: npt.ArrayLike,
    method: EerMethod = "nearest",
) -> EER:
    """SASV-EER of SASV 2022: targets against non-targets and spoofs in one pool.

    It depends on how many there are of each.

    >>> sasv_eer([0.8, 0.9], [0.1], [0.85]).rate
    0.5
    """
    impostors = [checked_scores(nontargets, "non-target"), checked_scores(spoofs, "spoof")]
    return eer(targets, np.concatenate(impostors), method)


def cm_min_dcf(
    bonafide: npt.ArrayLike,
    spoofs: npt.ArrayLike,
    p_spoof: float = 0.05,
    c_miss: float = 1.0,
    c_fa: float = 10.0,
) -> Cost:
    """Normalised minimum cost of a countermeasure alone (ASVspoof 5 evaluation plan, track 1).

    The prior is that of spoofs, what passes is bona fide:
    :func:`speakerguard.evaluation.metrics.min_dcf` with p_target = 1 - p_spoof.
    """
    return min_dcf(bonafide, spoofs, 1 - p_spoof, c_miss, c_fa)


def a_dcf(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    spoofs: npt.ArrayLike,
    p_nontarget: float = 0.05,
    p_spoof: float = 0.05,
    c_miss: float = 1.0,
    c_fa_nontarget: float = 10.0,
    c_fa_spoof: float = 20.0,
) -> Cost:
    """Minimum normalised a-DCF: one score and one threshold against non-targets and spoofs.

    Shim et al., a-DCF: an architecture agnostic metric, Odyssey 2024, eq. 4 to 6; divided by the
    cost of the better of accepting and rejecting everyone. The defaults are those of the a_dcf
    package; ASVspoof 5 has p_nontarget 0.0095, p_spoof 0.05 and costs 1, 10 and 10.

    Raises:
        UsageError: a class is empty, a score is not finite, or priors or costs are out of range.

    >>> a_dcf([8, 9], [1], [8.5])
    Cost(value=0.5, threshold=8.500000000000002)
    """
    p_target = 1 - p_nontarget - p_spoof
    weights = [c_miss * p_target, c_fa_nontarget * p_nontarget, c_fa_spoof * p_spoof]
    if min(p_target, p_nontarget, p_spoof) <= 0 or min(weights) <= 0:
        raise UsageError("The three priors must lie above 0 and add up to 1, and costs above 0.")
    kinds = ("target", "non-target", "spoof")
    given = (targets, nontargets, spoofs)
    classes = [
        np.sort(checked_scores(scores, kind)) for scores, kind in zip(given, kinds, strict=True)
    ]
    thresholds = steps(np.unique(np.concatenate(classes)))
    miss, nontarget, spoof = (np.searchsorted(c, thresholds) / len(c) for c in classes)
    cost = weights[0] * miss + weights[1] * (1 - nontarget) + weights[2] * (1 - spoof)
    index = int(np.argmin(cost))
    return Cost(
        float(cost[index] / min(weights[0], weights[1] + weights[2])), float(thresholds[index])
    )


def min_t_dcf(
    bonafide: npt.ArrayLike,
    spoofs: npt.ArrayLike,
    p_miss: float,
    p_fa: float,
    p_fa_spoof: float,
    p_spoof: float = 0.05,
    c_miss: float = 1.0,
    c_fa: float = 10.0,
    c_fa_spoof: float = 10.0,
) -> Cost:
    """Minimum normalised t-DCF of a countermeasure before a fixed verifier, in the 2021 form.

    Kinnunen et al., Tandem assessment, IEEE/ACM TASLP 28, 2020, eq. 10 and 11, as used in
    ASVspoof 2021 (the form of 2019 leaves out the verifier's own errors). Of the bona fide
    trials, 99 % are taken to be targets.

    Args:
        bonafide, spoofs: scores of the countermeasure; targets and non-targets are bona fide.
        p_miss, p_fa, p_fa_spoof: the verifier's error rates at its threshold, for targets,
            non-targets and spoofs. (The ASVspoof 5 package takes them at the score that its EER
            prints as a threshold, and there accepts that score, which its EER rejects.)

    Returns:
        the cost, and the threshold of the countermeasure.

    Raises:
        UsageError: a class is empty, a score is not finite, a number is out of range, or the
            verifier alone rejects all spoofs or costs so much that no countermeasure matters.

    >>> min_t_dcf([8, 9], [1, 2], p_miss=0.0, p_fa=0.0, p_fa_spoof=0.5)
    Cost(value=0.0, threshold=2.0000000000000004)
    """
    rates = (p_miss, p_fa, p_fa_spoof, p_spoof)
    if not all(0 <= rate <= 1 for rate in rates) or min(c_miss, c_fa, c_fa_spoof) <= 0:
        raise UsageError("Rates and the prior must lie between 0 and 1, and costs above 0.")
    target = c_miss * (1 - p_spoof) * TARGET_AMONG_BONAFIDE
    nontarget = c_fa * (1 - p_spoof) * (1 - TARGET_AMONG_BONAFIDE)
    verifier = target * p_miss + nontarget * p_fa  # C0: its errors when nothing is blocked
    blocking = target - verifier  # C1: what blocking bona fide speech adds
    passing = c_fa_spoof * p_spoof * p_fa_spoof  # C2
    if blocking <= 0 or passing <= 0:
        raise UsageError(
            "With these error rates of the verifier a countermeasure changes nothing, so t-DCF "
            "says nothing. Choose a threshold that accepts some targets and some spoofs."
        )
    curve = det_curve(bonafide, spoofs)
    costs = verifier + blocking * curve.p_miss + passing * curve.p_fa
    index = int(np.argmin(costs))
    return Cost(
        float(costs[index] / (verifier + min(blocking, passing))), float(curve.thresholds[index])
    )
