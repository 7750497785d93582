"""Weights of several models by what each says that the others do not."""

import numpy as np
import numpy.typing as npt
import pytest

from speakerguard.errors import UsageError
from speakerguard.evaluation.fusion import fusion_weights
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.trials import ScoreTable

COUNT = 4_000


def table(scores: npt.NDArray[np.float64], source: str = "a") -> ScoreTable:
    labels = np.repeat(["target", "nontarget"], COUNT)
    names = [f"{source}/{i % 40}/{i}" for i in range(2 * COUNT)]
    return ScoreTable(labels, scores, names, names[::-1])


def scores(seed: int, apart: float, spread: float = 1.0) -> npt.NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(0, 1, 2 * COUNT)
    return spread * (noise + apart * np.repeat([1.0, 0.0], COUNT))


def test_independent_scores_weigh_as_their_log_ratios_do() -> None:
    # of normal scores with one variance the log-likelihood ratio is apart / spread times the score
    strong, weak = scores(0, 3.0), scores(1, 1.5, spread=0.5)
    found = fusion_weights([[table(strong), table(weak)]])
    np.testing.assert_allclose(found, [1.0, 1.0], atol=0.12)
    found = fusion_weights([[table(strong), table(scores(1, 1.5))]])
    np.testing.assert_allclose(found, [1.0, 0.5], atol=0.08)


def test_what_says_nothing_gets_no_weight() -> None:
    found = fusion_weights([[table(scores(0, 3.0)), table(-scores(0, 3.0) + scores(2, 0.0))]])
    assert found[0] == 1
    assert found[1] < 0.05


def test_the_fused_score_errs_less() -> None:
    both = [scores(0, 2.0), scores(1, 2.0, spread=0.1)]
    weights = fusion_weights([[table(part) for part in both], [table(part) for part in both]])
    whole = table(weights @ np.stack(both))
    rates = [
        det_curve(one.targets, one.nontargets).eer().rate for one in (*map(table, both), whole)
    ]
    assert rates[2] < 0.6 * min(rates[:2])


def test_other_trials_cannot_be_fused() -> None:
    with pytest.raises(UsageError, match="same trials alone"):
        fusion_weights([[table(scores(0, 1.0)), table(scores(1, 1.0), "b")]])
    alone = ScoreTable(np.array(["target"]), np.ones(1), ["a/b/c"], ["a/b/d"])
    with pytest.raises(UsageError, match="same and of different speakers"):
        fusion_weights([[alone, alone]])
    with pytest.raises(UsageError, match="one condition or more"):
        fusion_weights([])
