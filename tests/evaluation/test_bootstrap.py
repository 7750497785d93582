from collections.abc import Callable

import numpy as np
import pytest

from speakerguard.errors import UsageError
from speakerguard.evaluation.bootstrap import (
    exact_interval,
    paired_bootstrap,
    share_interval,
    speaker_bootstrap,
)
from speakerguard.evaluation.metrics import DetCurve, FloatArray, det_curve

SPEAKERS = 12


@pytest.fixture(scope="module")
def trials() -> tuple[FloatArray, FloatArray, list[str], list[str]]:
    """Scores, labels, and the speakers of both sides: all pairs, two target trials each."""
    rng = np.random.default_rng(5)
    enrol, test = np.divmod(np.arange(SPEAKERS**2), SPEAKERS)
    enrol = np.concatenate([enrol, np.arange(SPEAKERS)])
    test = np.concatenate([test, np.arange(SPEAKERS)])
    is_target = enrol == test
    easy = rng.normal(size=SPEAKERS)
    scores = rng.normal(size=len(enrol)) + is_target * (2 + easy[enrol])
    return scores.round(1), is_target, [f"s{i}" for i in enrol], [f"s{i}" for i in test]


def p_miss_at_one(curve: DetCurve) -> float:
    return curve.rates_at(1.0)[0]


@pytest.mark.parametrize(
    "statistic", [lambda c: c.eer().rate, lambda c: c.min_dcf(0.05).value, p_miss_at_one]
)
def test_weights_do_what_copying_trials_does(
    trials: tuple[FloatArray, FloatArray, list[str], list[str]],
    statistic: Callable[[DetCurve], float],
) -> None:
    scores, is_target, enrol, test = trials
    names = sorted({*enrol, *test})
    rng = np.random.default_rng(0)
    values = []
    for _ in range(25):
        drawn = dict(
            zip(names, rng.multinomial(len(names), [1 / len(names)] * len(names)), strict=True)
        )
        copies: dict[bool, list[float]] = {True: [], False: []}
        for score, target, one, other in zip(scores, is_target, enrol, test, strict=True):
            times = drawn[one] if one == other else drawn[one] * drawn[other]
            copies[bool(target)] += [score] * int(times)
        values.append(statistic(det_curve(copies[True], copies[False])))
    found = speaker_bootstrap(*trials, statistic, replicates=25, confidence=0.9)
    assert found == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)


def test_interval_is_as_wide_as_speakers_differ() -> None:
    """Ten target trials of a speaker that all go the same way are one observation, not ten."""
    speakers = np.repeat([f"s{i}" for i in range(60)], 10)
    missed = np.repeat(np.arange(60) < 18, 10)
    enrol, test = [*speakers, *speakers[10:]], [*speakers, *speakers[:-10]]
    scores = np.append(np.where(missed, 0.0, 2.0), np.full(590, 0.5))
    is_target = np.arange(1190) < 600
    low, high = speaker_bootstrap(scores, is_target, enrol, test, p_miss_at_one, replicates=3000)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 60)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.03)


def test_seed_and_confidence_decide(
    trials: tuple[FloatArray, FloatArray, list[str], list[str]],
) -> None:
    first = speaker_bootstrap(*trials, replicates=200)
    assert first == speaker_bootstrap(*trials, replicates=200)
    assert first != speaker_bootstrap(*trials, replicates=200, seed=1)
    narrow = speaker_bootstrap(*trials, replicates=200, confidence=0.5)
    assert first.low < narrow.low < narrow.high < first.high
    assert speaker_bootstrap(*trials, "min_dcf", 200) != first


def test_order_of_trials_does_not_matter(
    trials: tuple[FloatArray, FloatArray, list[str], list[str]],
) -> None:
    scores, is_target, enrol, test = trials
    order = np.random.default_rng(1).permutation(len(scores))
    shuffled = [enrol[i] for i in order], [test[i] for i in order]
    found = speaker_bootstrap(scores[order], is_target[order], *shuffled, replicates=50)
    assert found == speaker_bootstrap(*trials, replicates=50)


def test_paired_difference_cancels_what_is_common(
    trials: tuple[FloatArray, FloatArray, list[str], list[str]],
) -> None:
    scores, is_target, enrol, test = trials
    rest = (is_target, enrol, test)
    assert paired_bootstrap(scores, 3 * scores + 1, *rest, replicates=50) == (0, 0)
    worse = scores - 1.5 * is_target
    low, high = paired_bootstrap(worse, scores, *rest, replicates=200)
    assert 0 < low < high
    swapped = paired_bootstrap(scores, worse, *rest, replicates=200)
    assert swapped == pytest.approx((-high, -low), abs=1e-12)


def test_impossible_requests_are_refused() -> None:
    good = ([0.9, 0.1], [True, False], ["a", "a"], ["a", "b"])
    with pytest.raises(UsageError, match="differ in number"):
        speaker_bootstrap([0.9], *good[1:])
    with pytest.raises(UsageError, match="one class"):
        speaker_bootstrap([0.9, 0.1], [True, True], *good[2:])
    with pytest.raises(UsageError, match="one speaker"):
        speaker_bootstrap([0.9, 0.1], [True, False], ["a", "a"], ["a", "a"])
    with pytest.raises(UsageError, match="index 1 is nan"):
        speaker_bootstrap([0.9, np.nan], *good[1:])
    with pytest.raises(UsageError, match="confidence"):
        speaker_bootstrap(*good, confidence=95)
    with pytest.raises(UsageError, match="0 replicates"):
        speaker_bootstrap(*good, replicates=0)
    with pytest.raises(UsageError, match="No statistic 'err'"):
        speaker_bootstrap(*good, "err")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"Only \d+ of 1000 replicates hold both"):
        speaker_bootstrap([0.9, 0.1], [True, False], ["a", "b"], ["a", "c"])


def test_the_interval_of_a_share_resamples_speakers_not_pairs() -> None:
    rng = np.random.default_rng(0)
    spoke, claimed = ([f"{side}{i % n}" for i in range(200)] for side, n in (("s", 10), ("t", 7)))
    by_pair = share_interval(rng.random(200) < 0.5, claimed, spoke)
    by_speaker = share_interval([name in {"t0", "t1", "t2"} for name in claimed], claimed, spoke)
    assert by_speaker.high - by_speaker.low > 2 * (by_pair.high - by_pair.low)


def test_a_share_that_cannot_be_resampled_has_an_exact_interval() -> None:
    claimed, spoke = [f"t{i % 7}" for i in range(21)], [f"s{i % 3}" for i in range(21)]
    some = [i % 2 == 0 for i in range(21)]
    assert share_interval([True] * 21, claimed, spoke) == exact_interval(1, 7)
    assert share_interval(some, claimed, spoke, replicates=0) == exact_interval(11 / 21, 7)
    assert share_interval(some, claimed, spoke) != exact_interval(11 / 21, 7)
    few = [f"t{i % 4}" for i in range(21)]
    assert share_interval(some, few, spoke) == exact_interval(11 / 21, 4)
    halves = np.repeat(list("abcde"), 2)  # half of each speaker's: so in every replicate
    assert share_interval([True, False] * 5, halves, halves) == exact_interval(0.5, 5)


def test_the_exact_interval_is_clopper_and_pearsons() -> None:
    assert exact_interval(0.1, 20) == pytest.approx((0.0123485, 0.3169827), abs=1e-6)
    assert exact_interval(1.0, 10) == pytest.approx((0.6915029, 1.0), abs=1e-6)
