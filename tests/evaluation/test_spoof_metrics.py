import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import FloatArray, eer, error_rates, min_dcf
from speakerguard.evaluation.spoof_metrics import a_dcf, cm_min_dcf, min_t_dcf, sasv_eer, spf_eer

scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def test_published_spf_eer(golden: FloatArray) -> None:
    asv, _, label = golden
    assert spf_eer(asv[label == 1], asv[label == 0]).rate == pytest.approx(0.20282342, abs=1e-8)


def test_published_countermeasure_cost(golden: FloatArray) -> None:
    _, cm, label = golden
    cost = cm_min_dcf(cm[label != 0], cm[label == 0], p_spoof=0.05, c_miss=1, c_fa=10)
    assert cost.value == pytest.approx(0.016320, abs=1e-6)
    assert cost.threshold == pytest.approx(-0.141772, abs=1e-6)


def test_published_a_dcf(golden: FloatArray) -> None:
    asv, cm, label = golden
    alone = a_dcf(asv[label == 1], asv[label == 2], asv[label == 0])
    assert alone.value == pytest.approx(0.379546992932, abs=1e-12)
    assert alone.threshold == pytest.approx(0.578073, abs=1e-6)
    both = sum((values - values.mean()) / values.std(ddof=1) for values in (asv, cm))
    fused = a_dcf(both[label == 1], both[label == 2], both[label == 0])
    assert fused.value == pytest.approx(0.0382008, abs=1e-7)
    assert fused.threshold == pytest.approx(2.020691, abs=1e-6)


def test_published_t_dcf(golden: FloatArray) -> None:
    """The package takes the verifier's rates by accepting the very score that its EER rejects."""
    asv, cm, label = golden
    target, nontarget, spoof = (asv[label == number] for number in (1, 2, 0))
    printed = np.nextafter(eer(target, nontarget).threshold, -np.inf)
    assert printed in asv
    p_miss, p_fa = error_rates(target, nontarget, printed)
    _, p_fa_spoof = error_rates(target, spoof, printed)
    cost = min_t_dcf(cm[label != 0], cm[label == 0], p_miss, p_fa, p_fa_spoof)
    assert cost.value == pytest.approx(0.108650, abs=1e-6)


@given(scores, scores, scores)
def test_a_dcf_is_the_lowest_cost_of_all(
    targets: list[float], nontargets: list[float], spoofs: list[float]
) -> None:
    costs = []
    for threshold in np.arange(-4, 6) - 0.5:
        miss = np.mean(np.array(targets) < threshold)
        fa = np.mean(np.array(nontargets) >= threshold)
        fa_spoof = np.mean(np.array(spoofs) >= threshold)
        costs.append((0.9 * miss + 10 * 0.05 * fa + 20 * 0.05 * fa_spoof) / 0.9)
    found = a_dcf(targets, nontargets, spoofs)
    assert found.value == pytest.approx(min(costs), abs=1e-12)
    again = a_dcf(targets[::-1], nontargets[::-1], spoofs[::-1])
    assert again == found


@given(scores, scores)
def test_a_dcf_with_spoofs_like_nontargets_is_min_dcf(
    targets: list[float], nontargets: list[float]
) -> None:
    c_fa = (10 * 0.05 + 20 * 0.05) / 0.1
    found = a_dcf(targets, nontargets, nontargets)
    expected = min_dcf(targets, nontargets, p_target=0.9, c_fa=c_fa)
    assert found.value == pytest.approx(expected.value, abs=1e-12)


@given(scores, scores, scores)
def test_sasv_eer_pools_the_impostors(
    targets: list[float], nontargets: list[float], spoofs: list[float]
) -> None:
    assert sasv_eer(targets, nontargets, spoofs) == eer(targets, nontargets + spoofs)


@given(scores, scores, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.01, 1))
def test_t_dcf_lies_between_a_perfect_countermeasure_and_none(
    bonafide: list[float], spoofs: list[float], p_miss: float, p_fa: float, p_fa_spoof: float
) -> None:
    rates = (p_miss, p_fa, p_fa_spoof)
    perfect, none = min_t_dcf([1], [0], *rates), min_t_dcf([1], [1], *rates)
    assert none.value == pytest.approx(1)
    value = min_t_dcf(bonafide, spoofs, *rates).value
    assert perfect.value - 1e-12 <= value <= 1 + 1e-12


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="no spoof scores"):
        a_dcf([1], [0], [])
    with pytest.raises(UsageError, match="spoof score at index 0"):
        sasv_eer([1], [0], [np.nan])
    with pytest.raises(UsageError, match="add up to 1"):
        a_dcf([1], [0], [0], p_nontarget=0.5, p_spoof=0.5)
    with pytest.raises(UsageError, match="between 0 and 1"):
        min_t_dcf([1], [0], p_miss=1.5, p_fa=0, p_fa_spoof=0.5)
    for rejecting in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.5)):
        with pytest.raises(UsageError, match="says nothing"):
            min_t_dcf([1], [0], *rejecting)
