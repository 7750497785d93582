"""How sure a metric is: confidence intervals that resample the speakers of the trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import DetCurve, Ranking, checked_scores

Statistic = Literal["eer", "min_dcf"] | Callable[[DetCurve], float]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def speaker_bootstrap(
    scores: npt.ArrayLike,
    is_target: npt.ArrayLike,
    enrol_speakers: Sequence[str],
    test_speakers: Sequence[str],
    statistic: Statistic = "eer",
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A percentile confidence interval that resamples speakers on both sides of the trials.

    Trials that share a speaker are not independent, so speakers are drawn, with replacement,
    as many as there are. One drawn m times stands for m speakers. A trial between two speakers
    then counts m1·m2 times. A trial within one speaker counts m times: the copies of a speaker
    are different people, who have no target trials between them. (DCA-PLDA counts m² there,
    which makes speakers with many target trials weigh too much.)

    A statistic is a function of the weighted :class:`.DetCurve`; ``"eer"`` and ``"min_dcf"`` are
    those with their defaults. Replicates that draw no target or no non-target are left out.

    Args:
        scores: (n,), finite.
        is_target: bool (n,); anything else, non-target or spoof, is False.
        enrol_speakers, test_speakers: n names each, see
            :func:`speakerguard.evaluation.trials.speaker_of`.
        confidence: between 0 and 1.

    Raises:
        UsageError: a class is empty, lengths differ, a score is not finite, there are fewer than
            two speakers, an option is out of range, or most replicates lack a class.

    >>> speakers = ["ann", "ann", "bo", "bo", "cy", "cy"]
    >>> others = ["ann", "bo", "bo", "cy", "cy", "ann"]
    >>> speaker_bootstrap([0.9, 0.2, 0.4, 0.5, 0.8, 0.1], [1, 0, 1, 0, 1, 0], speakers, others)
    Interval(low=0.0, high=0.8333333333333333)
    """
    draws = _replicates([scores], is_target, enrol_speakers, test_speakers, replicates, seed)
    measure = _measure(statistic)
    return _interval((measure(curve) for (curve,) in draws), replicates, confidence)


def paired_bootstrap(
    scores: npt.ArrayLike,
    other_scores: npt.ArrayLike,
    is_target: npt.ArrayLike,
    enrol_speakers: Sequence[str],
    test_speakers: Sequence[str],
    statistic: Statistic = "eer",
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The interval of statistic(scores) - statistic(other_scores), two systems on one trial list.

    Both see the same draws of speakers (see :func:`speaker_bootstrap`), so what they find hard
    together cancels. An interval without 0 says that they differ.
    """
    both = [scores, other_scores]
    draws = _replicates(both, is_target, enrol_speakers, test_speakers, replicates, seed)
    measure = _measure(statistic)
    return _interval((measure(a) - measure(b) for a, b in draws), replicates, confidence)


def _replicates(
    systems: Sequence[npt.ArrayLike],
    is_target: npt.ArrayLike,
    enrol_speakers: Sequence[str],
    test_speakers: Sequence[str],
    replicates: int,
    seed: int,
) -> Iterator[list[DetCurve]]:
    """For each draw of speakers that has both classes, the curve of each system."""
    checked = [checked_scores(scores, "trial") for scores in systems]
    target = np.asarray(is_target, dtype=bool)
    count = len(target)
    sizes = {len(enrol_speakers), len(test_speakers), *(len(scores) for scores in checked)}
    if sizes != {count}:
        raise UsageError(
            f"Scores, labels and speakers differ in number: {sorted(sizes | {count})}."
        )
    if target.all() or not target.any():
        raise UsageError("The trials are all of one class. Give targets and non-targets.")
    names, index = np.unique([*enrol_speakers, *test_speakers], return_inverse=True)
    if len(names) < 2:
        raise UsageError("All trials are of one speaker, so there are none to resample.")
    enrol, test = index[:count], index[count:]
    within = enrol == test
    rankings = [Ranking(scores, target) for scores in checked]
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names))).astype(float)
        weights = drawn[enrol] * np.where(within, 1.0, drawn[test])
        if weights[target].any() and weights[~target].any():
            yield [ranking.curve(weights) for ranking in rankings]


def _interval(values: Iterable[float], replicates: int, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise UsageError(f"The confidence is {confidence}; give one between 0 and 1.")
    if replicates < 1:
        raise UsageError(f"{replicates} replicates were asked for; 1,000 are usual.")
    found = list(values)
    if len(found) < replicates / 2:
        raise UsageError(
            f"Only {len(found)} of {replicates} replicates hold both classes. Give trials of "
            "more speakers."
        )
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _measure(statistic: Statistic) -> Callable[[DetCurve], float]:
    if callable(statistic):
        return statistic
    named: dict[str, Callable[[DetCurve], float]] = {
        "eer": lambda curve: curve.eer().rate,
        "min_dcf": lambda curve: curve.min_dcf().value,
    }
    if statistic not in named:
        raise UsageError(f"No statistic {statistic!r}: {', '.join(named)}, or a function.")
    return named[statistic]
