"""From rows to rates: limits nobody sets for himself, intervals that do not lie, refusals."""

import dataclasses
from pathlib import Path

import pytest

from advgan.pairs import Pair
from advgan.report.analysis import defence_summaries
from advgan.report.bench import CaseResult
from advgan.report.plan import Plan, Suite
from advgan.report.policy import Policy, verdict
from advgan.report.schema import AttackSummary, Cell, DefenceSummary, Rate
from advgan.report.tally import Tally
from advgan.victim.plugins import build
from speakerguard.evaluation.bootstrap import exact_interval
from speakerguard.evaluation.spoof_metrics import min_t_dcf

SPEAKERS = 6
DETECTOR = "score-variation"


@pytest.fixture
def plan() -> Plan:
    """Six speakers, each attacked by the next; attacks 0 genuine, 1 zero-effort, 2 replay."""
    suite = Suite(
        controls=("genuine", "zero-effort"), attacks=("replay",), defences=(DETECTOR,),
        replicates=200,
    )  # fmt: skip
    pairs = tuple(
        Pair(f"c/{(i + 1) % SPEAKERS}/1.wav", f"c/{i}/1.wav", (f"c/{i}/2.wav",))
        for i in range(SPEAKERS)
    )
    return Plan("x", suite, "guard", None, Path(), pairs, 0, None)


def row(pair: int, attack: int, score: float | None, doubt: float = 0.0) -> CaseResult:
    if score is None:
        return CaseResult(pair, attack, "refused", "no speech")
    scores: dict[str, float | None] = {"none": score, DETECTOR: score}
    return CaseResult(pair, attack, scores=scores, suspicion={DETECTOR: doubt})


def tally(plan: Plan, *attacks: list[CaseResult]) -> Tally:
    return Tally(plan, [row for rows in attacks for row in rows], 0.5)


def test_a_limit_is_set_by_all_but_the_speaker_it_judges(plan: Plan) -> None:
    genuine = [row(pair, 0, 0.9, doubt=pair / 10) for pair in range(SPEAKERS)]
    made = tally(plan, genuine)
    limits = made.limits[DETECTOR]
    assert limits["c/5"] == pytest.approx(0.4)  # the others' highest
    assert limits["c/0"] == pytest.approx(0.5)
    assert not made.accepted(genuine[5], DETECTOR)
    assert made.score(genuine[5], DETECTOR) is None
    assert made.score(genuine[5]) == 0.9
    assert all(made.accepted(genuine[pair], DETECTOR) for pair in range(5))
    assert all(made.accepted(genuine[pair]) for pair in range(6))


def test_a_countermeasure_rejects_where_verify_does(plan: Plan) -> None:
    """Below an LLR of 0, however real the genuine claims sound to it."""
    title = "countermeasure"
    suite = plan.suite.model_copy(update={"defences": (title,)})
    doubts = [-3.0, -0.1, 0.0, 0.1, -3.0, -3.0]  # minus the LLR
    genuine = [
        CaseResult(pair, 0, scores={"none": 0.9, title: 0.9}, suspicion={title: doubt})
        for pair, doubt in enumerate(doubts)
    ]
    made = tally(dataclasses.replace(plan, suite=suite), genuine)
    assert [made.accepted(row, title) for row in genuine] == [True, True, True, False, True, True]
    assert set(made.limits[title].values()) == {0.0}
    assert defence_summaries(made, [])[1].limits == {f"c/{i}": 0.0 for i in range(SPEAKERS)}


def test_a_detector_without_a_limit_was_not_run(plan: Plan) -> None:
    made = tally(plan, [row(0, 0, 0.9), row(0, 0, 0.8)], [row(0, 2, 0.9)])  # all of one speaker
    assert made.limits == {}
    assert made.cell(2, DETECTOR) is None
    assert made.cell(2, "none") is not None
    alone, detecting = defence_summaries(made, [])
    assert (alone.run, detecting.run) == (True, False)
    assert "set by the genuine claims of others" in detecting.reason


def test_a_refusal_is_a_rejection_and_no_score(plan: Plan) -> None:
    rows = [row(0, 2, None), row(1, 2, 0.9)]
    made = tally(plan, rows)
    assert made.score(rows[0]) is None
    rate = made.rate(rows, made.accepted)
    assert (rate.count, rate.cases, rate.value) == (1, 2, 0.5)


def test_a_refusal_is_a_rejection_behind_a_defence_as_well(plan: Plan) -> None:
    genuine = [row(pair, 0, 0.9 if pair else None) for pair in range(SPEAKERS)]
    made = tally(plan, genuine, [row(0, 2, None), row(1, 2, 0.9)])
    for defence in ("none", DETECTOR):
        for attack, count, cases in ((0, SPEAKERS - 1, SPEAKERS), (2, 1, 2)):
            cell = made.cell(attack, defence)
            assert cell is not None
            assert (cell.accepted.count, cell.accepted.cases) == (count, cases)
    assert tally(plan, [row(0, 2, None)]).cell(2, DETECTOR) is None  # it was not run at all


def test_intervals_draw_those_who_are_heard(plan: Plan) -> None:
    """Pair 0: voice 1 attacks voice 0; zero-effort is somebody else, replay the target alone."""
    made = tally(plan)
    assert [made.speakers(row(0, attack, 0.5)) for attack in range(3)] == [
        ("c/0", "c/0"),
        ("c/0", "c/2"),
        ("c/0", "c/0"),
    ]
    assert build("codec", {"codec": "gsm", "of": "target"}).voice == "target"
    assert build("codec", {"codec": "gsm"}).voice == build("again-vc", {}).voice == "source"


def test_no_score_is_too_low_to_rank_above_a_rejection(plan: Plan) -> None:
    """Normalised scores go far below any number that once stood for "rejected"."""
    rows = [row(0, 2, -40.0), row(1, 2, None), row(2, 2, -2.5), row(3, 2, 0.0)]
    made = tally(plan, rows)
    ranked = made.scores(rows, "none")
    assert ranked[1] < ranked[0] == -40.0
    assert ranked.tolist()[2:] == [-2.5, 0.0]
    lenient = Tally(plan, rows, -50.0)
    assert [lenient.accepted(row) for row in rows] == [True, False, True, True]


def test_intervals_hold_the_rate_and_never_vanish(plan: Plan) -> None:
    def rate(hits: int) -> Rate:
        rows = [row(pair, 2, 0.9 if pair < hits else 0.1) for pair in range(SPEAKERS)]
        made = tally(plan, rows)
        return made.rate(rows, made.accepted)

    for hits in range(SPEAKERS + 1):
        found = rate(hits)
        low, high = found.low or 0.0, found.high or 0.0
        assert low <= hits / SPEAKERS <= high
        assert high - low > 0.2
    assert (rate(0).low, rate(0).high) == exact_interval(0, SPEAKERS)
    few = [row(0, 2, 0.9), row(0, 2, 0.1), row(1, 2, 0.1), row(1, 2, 0.1)]
    made = tally(plan, few)
    found = made.rate(few, made.accepted)
    assert (found.low, found.high) == exact_interval(0.25, 2)
    assert tally(plan).rate([], bool) == Rate()


def test_t_dcf_takes_the_detector_as_countermeasure(plan: Plan) -> None:
    genuine = [row(pair, 0, 0.9, doubt=0.1) for pair in range(SPEAKERS)]
    strangers = [row(pair, 1, 0.1, doubt=0.1) for pair in range(SPEAKERS)]
    spoofs = [row(pair, 2, 0.8, doubt=0.05 + pair / 20) for pair in range(SPEAKERS)]
    cell = tally(plan, genuine, strangers, spoofs).cell(2, DETECTOR)
    assert cell is not None
    expected = min_t_dcf([-0.1] * 12, [-(0.05 + pair / 20) for pair in range(6)], 0.0, 0.0, 1.0)
    assert cell.min_t_dcf == pytest.approx(expected.value)
    alone = tally(plan, genuine, strangers, spoofs).cell(2, "none")
    assert alone is not None
    assert alone.min_t_dcf is None
    assert alone.accepted.value == 1


def summary(value: float | None, reason: str = "") -> AttackSummary:
    cells = {} if value is None else {"none": Cell(accepted=Rate(value=value, low=0, high=0.9))}
    points = {"eer": Rate(value=0.7, low=0, high=1)}
    return AttackSummary(
        index=2, name="replay", title="replay", family="physical", label="spoof", knowledge="",
        about="", against="none", budget={}, cases=6, outcomes={}, reason=reason, cells=cells,
        points=points, quality={}, peers={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "value", "passed", "said"),
    [
        ({"families": {"physical": 0.5}}, 0.4, True, "All 1 limits are kept"),
        ({"families": {"physical": 0.3}}, 0.4, False, "worst: replay, 40.0 % where at most 30.0"),
        ({"families": {"physical": 0.5}, "judge": "upper"}, 0.4, False, "90.0 %"),
        ({"families": {"physical": 0.3}, "attacks": {"replay": 0.5}}, 0.4, True, "All 1"),
        ({"families": {"physical": 0.5}, "point": "eer"}, 0.4, False, "70.0 %"),
        ({"families": {"physical": 0.5}, "point": "fa-9%"}, 0.4, False, "No verdict"),
        ({"families": {"physical": 0.5}, "defence": "opus"}, 0.4, False, "No verdict"),
        ({"families": {"physical": 0.5}}, None, True, "kept, 1 of them for want of a measurement"),
        ({"attacks": {"pgd[steps=9]": 0.5}}, 0.4, True, "kept, 1 of them for want of a measure"),
        ({"attacks": {"pgd": 0.5}, "not_run": "fail"}, 0.4, False, "worst: pgd, not measured"),
        ({"families": {"physical": 0.5}, "not_run": "fail"}, None, False, "not measured"),
        ({"genuine_rejected": 0.1}, 0.4, False, "genuine rejected, 20.0 %"),
        ({"unusable_pairs": 0.2}, 0.4, False, "pairs that cannot be used, 25.0 %"),
        ({}, 0.4, False, "No verdict: the policy sets no limit"),
    ],
)
def test_a_policy_is_kept_or_broken(
    policy: dict[str, object], value: float | None, passed: bool, said: str
) -> None:
    alone = DefenceSummary(
        title="none", about="", run=True, detects=False, eer=0.1,
        genuine_rejected=Rate(value=0.2, low=0, high=1), strangers_accepted=Rate(value=0.0),
    )  # fmt: skip
    limits = Policy.model_validate(policy)
    bad = Rate(value=0.25, low=0.25, high=0.25, count=1, cases=4)
    found = verdict(limits, "mine", "", "fa-1%", [summary(value)], [alone], bad)
    assert found.passed is passed
    assert said in found.sentence


def test_no_usable_pair_is_no_verdict() -> None:
    limits = Policy.model_validate({"families": {"physical": 0.5}})
    found = verdict(limits, "mine", "", "fa-1%", [summary(None)], [], Rate(value=1.0, cases=3))
    assert (found.passed, "none of the 3 pairs" in found.sentence) == (False, True)
