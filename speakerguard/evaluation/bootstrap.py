"""How sure a metric is: confidence intervals that resample the speakers of the trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import DetCurve, FloatArray, Ranking, checked_scores

FEW = 5  # claimed speakers under which resampling them says too little
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
            :func:`speakerguard.sound.corpus.speaker_of`.
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


def share_interval(
    hits: npt.ArrayLike,
    claimed: Sequence[str],
    spoke: Sequence[str],
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """The 95 % interval of the share of claims that end in one way, such as accepted ones.

    Speakers are resampled as in :func:`speaker_bootstrap`. Where that says nothing, because all
    claims end alike, all replicates do, or under :data:`FEW` speakers are claimed to be, it is the
    exact interval (:func:`exact_interval`) of as many cases as there are claimed speakers.

    Args:
        hits: bool (n,), n > 0.
        claimed, spoke: n names each: whose voice is claimed, and whose is heard.
        replicates: 0 for the exact interval in any case.

    >>> claimed = ["ann", "bo", "cy", "di", "ed", "flo"]
    >>> low, high = share_interval([True] * 6, claimed, claimed)
    >>> f"{low:.2f} {high:.2f}"
    '0.54 1.00'
    """
    values = np.asarray(hits, dtype=bool)
    speakers = len(set(claimed))
    if replicates and speakers >= FEW and values.any() and not values.all():
        count, left, right = _numbered(claimed, spoke)
        weights = _weights(_drawn(count, replicates, np.random.default_rng(seed)), left, right)
        weights = weights[weights.any(axis=1)]
        if len(weights):
            low, high = np.quantile(weights @ values / weights.sum(axis=1), [0.025, 0.975])
            if low < high:
                return Interval(float(low), float(high))
    return exact_interval(float(values.mean()), speakers)


def exact_interval(share: float, count: int) -> Interval:
    """Clopper and Pearson's 95 % interval of a share among so many independent cases.

    >>> [round(end, 3) for end in exact_interval(0.0, 8)]
    [0.0, 0.369]
    """
    hits = round(share * count)
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, 0.025))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 0.975))
    return Interval(low, high)


def _numbered(
    enrol: Sequence[str], test: Sequence[str]
) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many speakers there are, and the number of each on both sides."""
    names, index = np.unique([*enrol, *test], return_inverse=True)
    return len(names), index[: len(enrol)], index[len(enrol) :]


def _drawn(speakers: int, replicates: int, rng: np.random.Generator) -> FloatArray:
    """How often each speaker is drawn: (replicates, speakers)."""
    chances = np.full(speakers, 1 / speakers)
    return rng.multinomial(speakers, chances, replicates).astype(np.float64)


def _weights(
    drawn: FloatArray, enrol: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> FloatArray:
    """How often each trial counts, (..., n), when speakers are drawn so often, (..., speakers)."""
    within = np.where(enrol == test, 1.0, drawn[..., test])
    return np.asarray(drawn[..., enrol] * within)


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
    speakers, enrol, test = _numbered(enrol_speakers, test_speakers)
    if speakers < 2:
        raise UsageError("All trials are of one speaker, so there are none to resample.")
    rankings = [Ranking(scores, target) for scores in checked]
    for drawn in _drawn(speakers, replicates, np.random.default_rng(seed)):
        weights = _weights(drawn, enrol, test)
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
