"""What a threshold does to speakers who had no part in setting it.

A threshold judged on the trials that set it always looks good. Here each half of the speakers
sets it for the other half, over many random halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.evaluation.calibrate import fit, operating_points, source_weights
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.trials import ScoreTable
from speakerguard.sound.corpus import source_of, speaker_of
from speakerguard.verification.calibration import DEFAULT_POINT


@dataclass(frozen=True)
class HeldOut:
    """Figures on unseen speakers: means over all halves; ``low`` and ``high`` hold 95 % of them.

    Attributes:
        point: name of the operating point.
        p_fa, p_fa_low, p_fa_high, p_miss: in [0, 1], every source counting alike.
        act_dcf_05, cllr, min_cllr: likewise.
    """

    point: str
    splits: int
    p_fa: float
    p_fa_low: float
    p_fa_high: float
    p_miss: float
    act_dcf_05: float
    cllr: float
    min_cllr: float


def held_out(
    table: ScoreTable,
    judged: ScoreTable | None = None,
    point: str = DEFAULT_POINT,
    splits: int = 200,
    seed: int = 0,
) -> HeldOut:
    """Calibrate on half of the speakers of each source, judge the others, and the other way round.

    Trials between the halves are left out. A half that is easier than the other makes too strict a
    threshold or too lax a one, by turns: so both turns are taken.

    Args:
        table: scored trials that calibrate.
        judged: the same trials scored in another condition, such as on two seconds of speech, to
            judge instead; None judges those that calibrate.
        point: the operating point in question.
        splits: so many times, at random.

    Raises:
        UsageError: too few speakers or trials, or ``judged`` holds other trials.
    """
    judged = table if judged is None else judged
    if (table.enrol, table.test) != (judged.enrol, judged.test):
        raise UsageError("held_out compares two scorings of one trial list; these lists differ.")
    rng = np.random.default_rng(seed)
    sources = _speakers(table)
    figures: list[tuple[float, ...]] = []
    for _ in range(splits):
        side = _sides(table, sources, rng)
        for setting, new in ((0, 1), (1, 0)):
            figures.append(_judge(_part(table, side == setting), _part(judged, side == new), point))
    p_fa, p_miss, act_dcf, cllr, min_cllr = np.mean(figures, axis=0).tolist()
    low, high = np.quantile([f[0] for f in figures], [0.025, 0.975]).tolist()
    return HeldOut(point, splits, p_fa, low, high, p_miss, act_dcf, cllr, min_cllr)


def _judge(setting: ScoreTable, new: ScoreTable, point: str) -> tuple[float, ...]:
    """Shares of ``new`` accepted and missed at a threshold of ``setting``; actDCF and Cllr."""
    if not all(len(t) for part in (setting, new) for t in (part.targets, part.nontargets)):
        raise UsageError(
            "half of the speakers have no target or no non-target trial among themselves: "
            "too few to set a threshold on one half and judge the other."
        )
    weights = source_weights(setting)
    calibration = fit(setting.targets, setting.nontargets, weights=weights)
    at = operating_points(setting.targets, setting.nontargets, weights)[point].threshold
    weights = source_weights(new)
    p_miss, p_fa = det_curve(new.targets, new.nontargets, weights).rates_at(at)
    llrs = det_curve(calibration.llr(new.targets), calibration.llr(new.nontargets), weights)
    return p_fa, p_miss, llrs.act_dcf(0.05), llrs.cllr(), llrs.min_cllr()


def _speakers(table: ScoreTable) -> list[list[str]]:
    """The speakers of each source, in order."""
    speakers: dict[str, set[str]] = {}
    for name in (*table.enrol, *table.test):
        speakers.setdefault(source_of(name), set()).add(speaker_of(name))
    return [sorted(speakers[source]) for source in sorted(speakers)]


def _sides(
    table: ScoreTable, sources: Sequence[Sequence[str]], rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """0 or 1 where both speakers of a trial fell into that half of their source, -1 elsewhere."""
    half = {
        str(speaker): place % 2
        for speakers in sources
        for place, speaker in enumerate(rng.permutation(speakers))
    }
    sides = [_halves(names, half) for names in (table.enrol, table.test)]
    return np.where(sides[0] == sides[1], sides[0], -1).astype(np.int8)


def _halves(names: Sequence[str], half: dict[str, int]) -> npt.NDArray[np.int8]:
    return np.array([half[speaker_of(name)] for name in names], np.int8)


def _part(table: ScoreTable, inside: npt.NDArray[np.bool_]) -> ScoreTable:
    kept = np.flatnonzero(inside)
    return ScoreTable(
        table.labels[kept],
        table.scores[kept],
        [table.enrol[i] for i in kept],
        [table.test[i] for i in kept],
    )
