"""What is learnt from trials: likelihood ratios, thresholds, strangers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import UsageError
from speakerguard.evaluation.calibrate import balanced_weights, fit, gather, operating_points
from speakerguard.evaluation.metrics import (
    FloatArray,
    act_dcf,
    cllr,
    error_rates,
    min_cllr,
    min_dcf,
)
from speakerguard.verification.verifier import Verifier

scores = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=30)


def gaussian(seed: int, gap: float) -> tuple[FloatArray, FloatArray]:
    """Scores whose log-likelihood ratio is gap * score: unit variance, means gap / 2 either way."""
    rng = np.random.default_rng(seed)
    return rng.normal(gap / 2, 1, 4000), rng.normal(-gap / 2, 1, 40_000)


@pytest.mark.parametrize("prior", [0.5, 0.05, 0.01])
def test_known_likelihood_ratios_are_found(prior: float) -> None:
    targets, nontargets = gaussian(0, gap=3.0)
    found = fit(0.1 * targets + 0.4, 0.1 * nontargets + 0.4, prior)
    assert found.scale == pytest.approx(30, rel=0.05)
    assert found.llr(0.4) == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("prior", [0.5, 0.05])
def test_no_other_line_costs_less(prior: float) -> None:
    targets, nontargets = gaussian(1, gap=1.0)
    targets = np.tanh(targets)
    best = fit(targets, nontargets, prior)

    def cost(scale: float, offset: float) -> float:
        logit = np.log(prior / (1 - prior))
        miss = np.logaddexp(0, -(scale * targets + offset + logit)).mean()
        fa = np.logaddexp(0, scale * nontargets + offset + logit).mean()
        return float(prior * miss + (1 - prior) * fa)

    lowest = cost(best.scale, best.offset)
    for scale, offset in ((1, 0.03), (1, -0.03), (1.03, 0), (0.97, 0)):
        assert lowest < cost(best.scale * scale, best.offset + offset)


def test_calibration_closes_the_gap_to_the_minimum() -> None:
    targets, nontargets = gaussian(2, gap=2.0)
    seen = fit(0.1 * targets, 0.1 * nontargets)
    targets, nontargets = gaussian(3, gap=2.0)
    llrs = seen.llr(0.1 * targets), seen.llr(0.1 * nontargets)
    assert cllr(*llrs) - min_cllr(*llrs) < 0.01
    for prior in (0.05, 0.5):
        assert act_dcf(*llrs, prior) - min_dcf(*llrs, prior).value < 0.02
    assert cllr(0.1 * targets, 0.1 * nontargets) - min_cllr(*llrs) > 0.2


def test_separable_scores_give_a_finite_line() -> None:
    found = fit([0.8, 0.9], [0.1, 0.2])
    assert np.isfinite([found.scale, found.offset]).all()
    assert found.llr(0.8) > 3 > -3 > found.llr(0.2)


def test_a_weight_counts_a_trial_so_often() -> None:
    weighted = fit([0.3, 0.8], [0.1, 0.5], weights=([1, 3], [2, 1]))
    copied = fit([0.3, 0.8, 0.8, 0.8], [0.1, 0.1, 0.5])
    values = np.linspace(0, 1, 5)
    assert weighted.llr(values) == pytest.approx(copied.llr(values), rel=1e-3)


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(UsageError, match="do not score higher"):
        fit([0.1, 0.2], [0.8, 0.9])
    with pytest.raises(UsageError, match="equal"):
        fit([0.1] * 3, [0.1] * 7)
    with pytest.raises(UsageError, match="prior"):
        fit([0.9], [0.1], p_target=0)
    with pytest.raises(UsageError, match="no target scores"):
        fit([], [0.1])
    with pytest.raises(UsageError, match="Weights"):
        fit([0.9], [0.1], weights=([0], [1]))


@given(scores, scores)
def test_operating_points_keep_what_they_say(targets: list[float], nontargets: list[float]) -> None:
    points = operating_points(targets, nontargets)
    assert list(points) == ["fa-1%", "fa-0.1%", "eer"]
    for point in points.values():
        assert error_rates(targets, nontargets, point.threshold) == (point.p_miss, point.p_fa)


@given(
    st.lists(st.integers(-50, 50).map(float), min_size=150, max_size=250),
    st.sampled_from([("fa-1%", 0.01), ("fa-0.1%", 0.001)]),
)
def test_a_lower_threshold_accepts_too_many(
    nontargets: list[float], named: tuple[str, float]
) -> None:
    name, limit = named
    point = operating_points([0.0], nontargets)[name]
    assert point.p_fa <= limit
    below = np.nextafter(point.threshold, -np.inf)
    assert error_rates([0.0], nontargets, below)[1] > limit


def test_points_of_ones_own() -> None:
    nontargets, targets = np.arange(1000) / 1000, np.arange(500) / 500 + 0.5
    points = operating_points(targets, nontargets, own=["fa-0.50%", "fr-2%", "fa-1%", "fa-2.5%"])
    assert list(points) == ["fa-1%", "fa-0.1%", "fa-0.5%", "fr-2%", "fa-2.5%", "eer"]
    assert (points["fa-0.5%"].p_fa, points["fa-2.5%"].p_fa) == (0.005, 0.025)
    assert points["fa-0.5%"].threshold == pytest.approx(0.994)
    assert points["fr-2%"].p_miss == 0.02
    assert points["fr-2%"].threshold == pytest.approx(0.519)
    assert error_rates(targets, nontargets, 0.5201)[0] > 0.02
    for name, words in (
        ("fa-0.2%", "from 1000 trials of different speakers: with fewer than 1500"),
        ("fr-0.5%", "from 500 trials of the same speaker: with fewer than 600"),
    ):
        with pytest.raises(UsageError, match=words):
            operating_points(targets, nontargets, own=[name])


@pytest.mark.parametrize(
    "name", ["", "fa", "fa-1", "fa-0%", "fa-50%", "far-1%", "fa--1%", "fa-1e-3%"]
)
def test_points_are_called_by_kind_and_share(name: str) -> None:
    with pytest.raises(UsageError, match=r"such as fa-0\.5%"):
        operating_points([1.0], [0.0], own=[name])


@pytest.mark.parametrize("count", [100, 300, 700, 1300])
def test_equal_weights_change_no_threshold(count: int) -> None:
    """However inexact their running sums are."""
    targets, nontargets = np.linspace(1, 2, 10), np.linspace(-1, 1, count)
    weights = (np.ones(10), np.full(count, 1 / count))
    plain = operating_points(targets, nontargets)
    weighed = operating_points(targets, nontargets, weights)
    assert [p.threshold for p in weighed.values()] == [p.threshold for p in plain.values()]
    assert plain["fa-1%"].p_fa == 0.01


def test_a_large_source_does_not_set_the_threshold_alone() -> None:
    easy, hard = np.linspace(-1, 0, 900), np.linspace(0, 1, 100)
    nontargets, sources = np.append(easy, hard), ["easy"] * 900 + ["hard"] * 100
    weights = balanced_weights(sources)
    assert weights[:900].sum() == pytest.approx(1)
    assert weights[900:].sum() == pytest.approx(1)
    plain = operating_points([1.0], nontargets)["fa-1%"]
    fair = operating_points([1.0], nontargets, ([1], weights))["fa-1%"]
    assert plain.threshold == pytest.approx(0.9, abs=0.02)
    assert fair.threshold == pytest.approx(0.98, abs=0.02)


def test_gathered_from_speech_every_speaker_once(
    tiny_model: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    verifier = Verifier(tiny_model, str(tmp_path / "profiles.db"))
    files = {f"{name}/{n}": clip for name, clips in speech.items() for n, clip in enumerate(clips)}
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    seen: list[int] = []
    made, left_out = gather(verifier, files | {"x/0": broken}, 2, seen.append)
    assert made.embeddings.shape == (len(speech), 192)
    assert len(left_out) == 1
    assert "broken.wav" in left_out[0]
    assert seen[-1] == len(files) + 1
    first = sorted(speech)[0]
    mean = np.sum(verifier.embed(speech[first][:2]), axis=0)
    np.testing.assert_allclose(made.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
