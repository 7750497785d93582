import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import ConfigError, UsageError
from speakerguard.evaluation.metrics import (
    FloatArray,
    act_dcf,
    cllr,
    error_rates,
    min_cllr,
    min_dcf,
)
from speakerguard.evaluation.trials import Trial, read_scores, write_scores
from speakerguard.verification.calibration import (
    Calibration,
    CalibrationFile,
    balanced_weights,
    calibrate,
    fit,
    operating_points,
)

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


def test_ratios_of_one_score_and_of_many() -> None:
    line = Calibration(scale=2.0, offset=-1.0)
    assert line.llr(0.75) == 0.5
    assert line.llr(np.array([0.5, 1], dtype=np.float32)).tolist() == [0, 1]
    assert line.llr(np.array([0.5, 1], dtype=np.float32)).dtype == np.float64


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


def test_a_threshold_of_ones_own(saved: tuple[Path, CalibrationFile]) -> None:
    point = saved[1].point(0.25)
    assert (point.name, point.threshold, point.accepts(0.25)) == ("custom", 0.25, True)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite"):
            saved[1].point(bad)


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


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, CalibrationFile]:
    trials = [
        Trial("vctk/a/1", "vctk/a/2", "target", 1),
        Trial("vctk/a/1", "vctk/b/1", "nontarget", 2),
        Trial("vctk/b/1", "vctk/b/2", "target", 3),
        Trial("vctk/a/1", "vctk/b/ü 1", "spoof", 4),
    ]
    write_scores(tmp_path / "scores.txt", trials, [0.8, 0.2, 0.7, 0.75])
    file = calibrate(read_scores(tmp_path / "scores.txt"), model="abc123", trials="dev")
    path = tmp_path / "calibration.json"
    file.save(path)
    return path, file


def test_a_file_comes_back_as_it_was(saved: tuple[Path, CalibrationFile]) -> None:
    path, file = saved
    assert CalibrationFile.load(path) == file
    assert file.model == "abc123"
    assert file.provenance.trials == "dev"
    assert (file.provenance.targets, file.provenance.nontargets) == (2, 1)
    assert file.provenance.speakers == 2
    scores = path.with_name("scores.txt").read_bytes()
    assert file.provenance.scores_sha256 == sha256(scores).hexdigest()


def test_a_score_at_the_threshold_is_accepted(saved: tuple[Path, CalibrationFile]) -> None:
    _, file = saved
    for name, point in file.points.items():
        assert file.point(name) == point
        assert point.accepts(point.threshold)
        assert not point.accepts(float(np.nextafter(point.threshold, -np.inf)))
    assert file.point() == file.points["fa-1%"]
    assert file.point().accepts(0.7)
    assert not file.point().accepts(0.2)
    with pytest.raises(UsageError, match=r"'fa-5%'.*fa-1%, fa-0.1%, eer"):
        file.point("fa-5%")
    with pytest.raises(UsageError, match="nan"):
        file.point().accepts(float("nan"))


def _unknown_point_key(data: dict[str, Any]) -> None:
    data["points"]["eer"]["treshold"] = 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data.pop("model"), "model: is missing"),
        (lambda data: data["calibration"].pop("scale"), "calibration.scale: is missing"),
        (lambda data: data.update(modle="x"), "modle: is an unknown key"),
        (_unknown_point_key, "points.eer.treshold: is an unknown key"),
        (lambda data: data["calibration"].update(scale="20"), "calibration.scale: .*number"),
        (lambda data: data["calibration"].update(scale=-1), "calibration.scale: is not above 0"),
        (lambda data: data["points"]["eer"].update(threshold=np.nan), "threshold: .*finite"),
        (lambda data: data["points"]["eer"].update(p_fa=2), "points.eer: .*outside 0 to 1"),
        (lambda data: data["points"]["eer"].update(name="x"), "points.eer.name: is 'x'"),
        (lambda data: data.update(default="fa-5%"), "default: .*'fa-5%'"),
        (lambda data: data["provenance"].update(targets=1.5), "provenance.targets: "),
    ],
)
def test_a_damaged_file_is_named_with_the_key(
    saved: tuple[Path, CalibrationFile], change: Callable[[dict[str, Any]], None], says: str
) -> None:
    path, _ = saved
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as error:
        CalibrationFile.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read.*speakerguard calibrate"):
        CalibrationFile.load(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("scale: 20")
    with pytest.raises(ConfigError, match=r"text\.json: the file: invalid JSON"):
        CalibrationFile.load(tmp_path / "text.json")
