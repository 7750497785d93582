"""Metrics against published values, brute force in exact fractions, and their own laws."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, product
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize  # imported where it is used: no deadline is to time that
import scipy.special  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import (
    EerMethod,
    FloatArray,
    Weights,
    act_dcf,
    bayes_threshold,
    cllr,
    dcf_at,
    det_curve,
    eer,
    error_rates,
    min_cllr,
    min_dcf,
)

METHODS: tuple[EerMethod, ...] = ("nearest", "interpolated", "convex_hull")

# Few distinct values, so that ties within and between classes are the rule.
tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)
free = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)
scores = tied | free
priors = st.floats(0.001, 0.999)


def exact_curve(
    targets: Sequence[float], nontargets: Sequence[float]
) -> list[tuple[Fraction, Fraction]]:
    """(p_miss, p_fa) by counting, from accepting everything to rejecting everything."""
    points = []
    for rejected in [-np.inf, *sorted({*targets, *nontargets})]:
        miss = sum(score <= rejected for score in targets)
        accepted = sum(score > rejected for score in nontargets)
        points.append((Fraction(miss, len(targets)), Fraction(accepted, len(nontargets))))
    return points


def crossing(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction]) -> Fraction | None:
    """Where the straight line between two points has equal rates, if it does."""
    start, end = a[0] - a[1], b[0] - b[1]
    if start > 0 or end < 0 or start == end:
        return None
    return a[0] + (b[0] - a[0]) * -start / (end - start)


def test_published_values(golden: FloatArray) -> None:
    asv, cm, label = golden
    speaker = eer(asv[label == 1], asv[label == 2])
    assert speaker.rate == pytest.approx(0.01870927433, abs=1e-10)
    assert speaker.threshold == pytest.approx(0.442594, abs=1e-6)
    countermeasure = eer(cm[label != 0], cm[label == 0])
    assert countermeasure.rate == pytest.approx(0.00619732, abs=1e-8)
    assert countermeasure.threshold == pytest.approx(-0.609383, abs=1e-6)
    _, spoof_accepted = error_rates(asv[label == 1], asv[label == 0], speaker.threshold)
    assert spoof_accepted == pytest.approx(0.417967, abs=1e-6)


@given(scores, scores)
def test_curve_is_what_counting_gives(targets: list[float], nontargets: list[float]) -> None:
    curve = det_curve(targets, nontargets)
    expected = [(float(miss), float(fa)) for miss, fa in exact_curve(targets, nontargets)]
    assert list(zip(curve.p_miss, curve.p_fa, strict=True)) == expected
    for threshold, rates in zip(curve.thresholds, expected, strict=True):
        assert curve.rates_at(threshold) == rates
        assert np.mean(np.array(targets) < threshold) == rates[0]
        assert np.mean(np.array(nontargets) >= threshold) == rates[1]


@given(scores, scores, st.floats(-10, 10) | st.sampled_from([-np.inf, np.inf]))
def test_rates_at_any_threshold(
    targets: list[float], nontargets: list[float], threshold: float
) -> None:
    p_miss, p_fa = error_rates(targets, nontargets, threshold)
    assert p_miss == np.mean(np.array(targets) < threshold)
    assert p_fa == np.mean(np.array(nontargets) >= threshold)


@given(scores, scores)
def test_eer_by_exact_arithmetic(targets: list[float], nontargets: list[float]) -> None:
    points = exact_curve(targets, nontargets)
    gap = min(abs(miss - fa) for miss, fa in points)
    nearest = [float((miss + fa) / 2) for miss, fa in points if abs(miss - fa) == gap]
    found = eer(targets, nontargets)
    assert any(found.rate == pytest.approx(rate, abs=1e-12) for rate in nearest)
    assert error_rates(targets, nontargets, found.threshold) == (found.p_miss, found.p_fa)
    assert found.rate == (found.p_miss + found.p_fa) / 2

    neighbours = [crossing(a, b) for a, b in pairwise(points)]
    interpolated = next(float(rate) for rate in neighbours if rate is not None)
    assert eer(targets, nontargets, "interpolated").rate == pytest.approx(interpolated, abs=1e-12)

    # The hull holds every line between two points, so its lowest equal rate is on one of them.
    chords = [crossing(a, b) for a, b in product(points, points)]
    hull = min(float(rate) for rate in chords if rate is not None)
    assert eer(targets, nontargets, "convex_hull").rate == pytest.approx(hull, abs=1e-12)


@given(scores, scores, priors, st.floats(0.1, 10), st.floats(0.1, 10))
def test_min_dcf_is_the_lowest_cost_of_all(
    targets: list[float], nontargets: list[float], prior: float, c_miss: float, c_fa: float
) -> None:
    useless = min(c_miss * prior, c_fa * (1 - prior))
    lowest = min(
        (c_miss * prior * float(miss) + c_fa * (1 - prior) * float(fa)) / useless
        for miss, fa in exact_curve(targets, nontargets)
    )
    found = min_dcf(targets, nontargets, prior, c_miss, c_fa)
    assert found.value == pytest.approx(lowest, rel=1e-12)
    assert found.value <= 1 + 1e-12
    assert dcf_at(targets, nontargets, found.threshold, prior, c_miss, c_fa) == found.value
    llr_cost = act_dcf(targets, nontargets, prior, c_miss, c_fa)
    at_bayes = bayes_threshold(prior, c_miss, c_fa)
    assert llr_cost == dcf_at(targets, nontargets, at_bayes, prior, c_miss, c_fa)
    assert llr_cost >= found.value


@given(scores, scores, st.randoms(use_true_random=False))
def test_order_of_trials_does_not_matter(
    targets: list[float], nontargets: list[float], rng: Random
) -> None:
    before = everything(targets, nontargets)
    rng.shuffle(targets)
    rng.shuffle(nontargets)
    assert everything(targets, nontargets) == before


def everything(
    targets: npt.ArrayLike, nontargets: npt.ArrayLike, weights: Weights = None
) -> list[float]:
    """All metrics in one list."""
    curve = det_curve(targets, nontargets, weights)
    found = [curve.eer(method).rate for method in METHODS]
    costs = [curve.min_dcf().value, curve.min_dcf(0.05).value, curve.act_dcf(0.05)]
    return [*found, *costs, curve.cllr(), curve.min_cllr()]


@given(tied, tied)
def test_only_the_ranks_of_scores_matter(targets: list[float], nontargets: list[float]) -> None:
    def stretch(values: list[float]) -> list[float]:
        return [value**3 + value - 7 for value in values]

    plain, stretched = (
        det_curve(targets, nontargets),
        det_curve(stretch(targets), stretch(nontargets)),
    )
    assert [plain.eer(m).rate for m in METHODS] == [stretched.eer(m).rate for m in METHODS]
    assert plain.min_dcf(0.05).value == stretched.min_dcf(0.05).value
    assert plain.min_cllr() == stretched.min_cllr()
    threshold, moved = plain.eer().threshold, stretched.eer().threshold
    accepted = [score >= threshold for score in targets + nontargets]
    assert accepted == [score >= moved for score in stretch(targets + nontargets)]


@given(tied, tied, st.data())
def test_a_weight_counts_a_trial_so_often(
    targets: list[float], nontargets: list[float], data: st.DataObject
) -> None:
    times = []
    for scores in (targets, nontargets):
        counts = st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))
        times.append(data.draw(counts.filter(any)))
    copies = [
        np.repeat(scores, count) for scores, count in zip((targets, nontargets), times, strict=True)
    ]
    weighted = everything(targets, nontargets, (times[0], times[1]))
    assert weighted == pytest.approx(everything(copies[0], copies[1]), abs=1e-12)
    ones = [1.0] * len(targets), [1.0] * len(nontargets)
    assert everything(targets, nontargets, ones) == everything(targets, nontargets)


def test_ten_equal_scores_tell_nothing() -> None:
    for method in METHODS:
        assert eer([0.5] * 4, [0.5] * 6, method).rate == 0.5
    assert min_dcf([0.5] * 4, [0.5] * 6).value == 1
    assert min_cllr([0.5] * 4, [0.5] * 6) == 1


def test_perfect_and_reversed_scores() -> None:
    for method in METHODS:
        assert eer([3, 4], [1, 2], method).rate == 0
    assert eer([1, 2], [3, 4]).rate == 1
    assert eer([1, 2], [3, 4], "convex_hull").rate == 0.5
    assert min_dcf([3, 4], [1, 2]) == (0, np.nextafter(2, 3))
    assert min_cllr([3, 4], [1, 2]) == 0


@given(free, free)
def test_cllr_is_the_mean_of_bits_lost(targets: list[float], nontargets: list[float]) -> None:
    miss = np.mean(np.logaddexp(0, -np.array(targets))) / np.log(2)
    fa = np.mean(np.logaddexp(0, nontargets)) / np.log(2)
    assert cllr(targets, nontargets) == pytest.approx((miss + fa) / 2, rel=1e-9)


@given(scores, scores)
def test_min_cllr_by_pooling_one_violator_at_a_time(
    targets: list[float], nontargets: list[float]
) -> None:
    pools: list[tuple[Fraction, Fraction]] = []  # share of targets, share of non-targets
    for (miss, fa), (next_miss, next_fa) in pairwise(exact_curve(targets, nontargets)):
        pools.append((next_miss - miss, fa - next_fa))
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            (a, b), (c, d) = pools.pop(), pools.pop()
            pools.append((a + c, b + d))
    bits = sum(a * np.log2(float(1 + b / a)) for a, b in pools if a)
    bits += sum(b * np.log2(float(1 + a / b)) for a, b in pools if b)
    lowest = min_cllr(targets, nontargets)
    assert lowest == pytest.approx(float(bits) / 2, abs=1e-9)
    assert lowest <= min(1, cllr(targets, nontargets)) + 1e-12


def test_bayes_threshold_is_minus_the_effective_prior_logit() -> None:
    assert bayes_threshold(0.5) == 0
    assert bayes_threshold(0.05) == pytest.approx(np.log(19))
    assert bayes_threshold(0.5, c_miss=1, c_fa=10) == pytest.approx(np.log(10))


@pytest.mark.parametrize(
    ("targets", "nontargets", "says"),
    [
        ([], [1], "no target scores"),
        ([1], [], "no non-target scores"),
        ([1, np.nan], [1], "target score at index 1 is nan"),
        ([1], [0, 0, -np.inf], "non-target score at index 2 is -inf"),
        ([[1]], [1], "shape"),
    ],
)
def test_scores_without_an_answer_are_refused(
    targets: list[float], nontargets: list[float], says: str
) -> None:
    for metric in (eer, min_dcf, act_dcf, cllr, min_cllr):
        with pytest.raises(UsageError, match=says):
            metric(targets, nontargets)


def test_weights_priors_and_methods_are_checked() -> None:
    for weights in ([1, 1], [-1], [np.nan], [0]):
        with pytest.raises(UsageError, match=r"[Ww]eights"):
            eer([1], [0], weights=(weights, [1]))
    for prior, c_miss in ((0, 1), (1, 1), (0.5, 0), (np.nan, 1)):
        with pytest.raises(UsageError, match="prior"):
            min_dcf([1], [0], prior, c_miss)
    with pytest.raises(UsageError, match="nearest, interpolated or convex_hull"):
        eer([1], [0], "guess")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a number"):
        error_rates([1], [0], np.nan)
