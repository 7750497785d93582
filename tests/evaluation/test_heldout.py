"""Thresholds judged on speakers who did not set them."""

import numpy as np
import pytest

from speakerguard.errors import UsageError
from speakerguard.evaluation.heldout import held_out
from speakerguard.evaluation.trials import ScoreTable


def world(speakers: int = 60, spread: float = 0.0, seed: int = 0) -> ScoreTable:
    """All pairs of two clips of each speaker; ``spread`` makes some speakers sound like many."""
    rng = np.random.default_rng(seed)
    common = spread * rng.standard_normal(speakers)
    rows = [
        (a == b, common[a] + common[b] + rng.normal(3.0 * (a == b)), f"x/s{a}/1", f"x/s{b}/2")
        for a in range(speakers)
        for b in range(speakers)
    ]
    same, scores, enrol, test = zip(*rows, strict=True)
    labels = np.where(same, "target", "nontarget")
    return ScoreTable(labels, np.array(scores, np.float64), list(enrol), list(test))


def test_a_threshold_holds_where_speakers_are_alike() -> None:
    found = held_out(world(), splits=20)
    assert found.p_fa == pytest.approx(0.01, abs=0.004)
    assert found.p_fa_low < found.p_fa < found.p_fa_high
    assert found.p_miss == pytest.approx(0.25, abs=0.08)  # Q(3 - 2.33)
    assert found.min_cllr < found.cllr < 1


def test_it_varies_more_where_speakers_differ() -> None:
    alike, unlike = held_out(world(), splits=20), held_out(world(spread=1.0), splits=20)
    assert unlike.p_fa_high - unlike.p_fa_low > alike.p_fa_high - alike.p_fa_low


def test_another_condition_is_judged_by_the_same_threshold() -> None:
    table = world()
    louder = ScoreTable(table.labels, table.scores + 1.0, table.enrol, table.test)
    moved = held_out(table, louder, splits=10)
    assert moved.p_fa > 4 * held_out(table, splits=10).p_fa


def test_no_speaker_is_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerguard.evaluation import heldout

    parts: list[ScoreTable] = []
    keep = heldout._part
    monkeypatch.setattr(heldout, "_part", lambda *a: parts.append(keep(*a)) or parts[-1])
    held_out(world(12), splits=3)
    assert len(parts) == 12  # each half sets and is judged
    for setting, judged in zip(parts[::2], parts[1::2], strict=True):
        first, second = ({n.split("/")[1] for n in p.enrol + p.test} for p in (setting, judged))
        assert len(first) == len(second) == 6
        assert not first & second


def test_other_trials_and_too_few_speakers_are_refused() -> None:
    with pytest.raises(UsageError, match="these lists differ"):
        held_out(world(8), world(10))
    with pytest.raises(UsageError, match="too few"):
        held_out(world(2))
