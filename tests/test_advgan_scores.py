"""The score in torch: the verifier's own number, with the gradient it really has."""

from pathlib import Path

import numpy as np
import pytest
import torch

from advgan.scores import Scores
from speakerguard.cohort import COHORT_FILE, Cohort
from speakerguard.scoring import Scoring


def unit(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[0, 40, 300])
def scoring(request: pytest.FixtureRequest, tmp_path: Path) -> Scoring:
    """Of a model with so many strangers; with none, scores are cosines."""
    if request.param:
        Cohort(unit(0, request.param, 16), "m").save(tmp_path / COHORT_FILE)
    return Scoring(tmp_path, "m")


def test_it_is_the_verifiers_score(scoring: Scoring) -> None:
    enrol, probe = unit(1, 9, 16), unit(2, 9, 16)
    probe[:3] = unit(3, 16) + enrol[:3]  # some alike
    probe /= np.linalg.norm(probe, axis=1, keepdims=True)
    found = Scores(scoring)(torch.from_numpy(enrol), torch.from_numpy(probe)).numpy()
    np.testing.assert_allclose(found, scoring.compare(enrol, probe), rtol=1e-4, atol=1e-4)
    one = Scores(scoring)(torch.from_numpy(enrol[:1]), torch.from_numpy(probe)).numpy()
    expected = scoring.compare(np.repeat(enrol[:1], 9, axis=0), probe)
    np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


def test_its_gradient_is_that_of_finite_differences(scoring: Scoring) -> None:
    scores = Scores(scoring).double()
    enrol, probe = (torch.from_numpy(unit(s, 3, 16)).double() for s in (1, 2))
    assert torch.autograd.gradcheck(scores, (enrol, probe.requires_grad_()))


def test_the_needed_cosine_is_where_the_score_meets_the_threshold(scoring: Scoring) -> None:
    """Moved along the line to the needed cosine, with both sides' strangers as they are."""
    scores = Scores(scoring)
    enrol, probe = (torch.from_numpy(unit(s, 5, 16)).requires_grad_() for s in (1, 2))
    for threshold in (-2.0, 0.5, 3.0):
        needed = scores.needed(enrol, probe, threshold)
        assert not needed.requires_grad
        cosine, score = (enrol * probe).sum(dim=1), scores(enrol, probe)
        assert torch.equal(score >= threshold, cosine >= needed)
        if scoring.cohort is None:
            assert needed.tolist() == [threshold] * 5
            assert scores.per_cosine(enrol[0]) == 1
    if scoring.cohort is not None:
        mine = scores.needed(enrol, enrol, 2.0) - scores.needed(enrol, enrol, 1.0)
        assert scores.per_cosine(enrol[0]) == pytest.approx(1 / float(mine[0]), rel=1e-4)


def test_strangers_all_alike_give_no_infinite_gradient(tmp_path: Path) -> None:
    Cohort(np.repeat(unit(0, 1, 8), 5, axis=0), "m").save(tmp_path / COHORT_FILE)
    probe = torch.from_numpy(unit(2, 2, 8)).requires_grad_()
    Scores(Scoring(tmp_path, "m"))(torch.from_numpy(unit(1, 2, 8)), probe).sum().backward()
    assert probe.grad is not None
    assert probe.grad.isfinite().all()
