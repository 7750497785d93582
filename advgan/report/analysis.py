"""From the rows of a run to the report: every figure of the page is made here."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from advgan.attacks.contract import Attack, Budget
from advgan.report.bench import CaseResult
from advgan.report.plan import Plan
from advgan.report.schema import (
    AttackSummary,
    Case,
    Curve,
    CurvePoint,
    DefenceSummary,
    DetLine,
    Group,
    Histogram,
    PairInfo,
    Problem,
    Rate,
)
from advgan.report.tally import Tally, reaches
from advgan.victim.defences import Defence
from advgan.victim.plugins import NotRunError
from speakerguard.evaluation.metrics import det_curve
from speakerguard.sound.audio import SAMPLE_RATE, printable
from speakerguard.sound.corpus import source_of, speaker_of

Axis = Literal["epsilon", "snr", "queries", "target_seconds"]
AXES: tuple[Axis, ...] = (
    "epsilon", "snr", "queries", "target_seconds",
)  # fmt: skip
LOW_VOICE = 165.0  # Hz, between the usual pitch of men and that of women and children
BINS = 50


def attack_summaries(
    tally: Tally, points: dict[str, float], peers: dict[str, float]
) -> list[AttackSummary]:
    """One for each attack of the suite.

    Args:
        points: thresholds of the other operating points; peers: of models that judge as well.
    """
    summaries = []
    titles = ["none", *(defence.title for defence in tally.plan.suite.built_defences)]
    for index, entry in enumerate(tally.plan.suite.entries):
        rows = tally.of(index)
        met = [row for row in rows if row.outcome in _MET]
        cells = {title: tally.cell(index, title) for title in titles}
        attack = entry.built
        summaries.append(
            AttackSummary(
                index=index, name=attack.name, title=entry.title, family=attack.family,
                label=attack.label, knowledge=str(attack.knowledge), about=_first_line(attack),
                against=entry.against, budget=_budget(attack.budget), cases=len(rows),
                outcomes=dict(sorted(Counter(row.outcome for row in rows).items())),
                reason=next((row.message for row in rows if row.outcome in _UNDONE), ""),
                cells={title: cell for title, cell in cells.items() if cell},
                points={
                    name: tally.rate(met, lambda row, at=at: reaches(row.scores.get("none"), at))  # type: ignore[misc]
                    for name, at in points.items()
                    if met
                },
                quality=_medians(met), queries=_median(row.queries for row in met),
                peers={
                    name: tally.rate(met, lambda row, n=name, at=at: reaches(row.peers.get(n), at))  # type: ignore[misc]
                    for name, at in peers.items()
                    if met
                },
            )
        )  # fmt: skip
    return summaries


_MET = ("judged", "refused")  # the guard heard it
_UNDONE = ("not-run", "failed")


def defence_summaries(tally: Tally, attacks: Sequence[AttackSummary]) -> list[DefenceSummary]:
    """The verifier alone, then each defence, with its price and what still gets through."""
    entries = tally.plan.suite.entries
    places = {entry.built.name: index for index, entry in enumerate(entries)}
    summaries = []
    for defence in (None, *tally.plan.suite.built_defences):
        title = defence.title if defence else "none"
        spoofs = [(a, a.cells[title]) for a in attacks if title in a.cells and is_attack(a)]
        worst = max(spoofs, key=lambda pair: pair[1].accepted.value or 0.0, default=None)
        genuine, strangers = (
            [row for row in tally.of(places[name]) if tally.met(row, title) or title == "none"]
            for name in ("genuine", "zero-effort")
        )
        run = any(title in row.scores and tally.met(row, title) for row in tally.rows)
        reason = "" if run or not defence else why_not(defence)
        limits = tally.limits.get(title, {})
        summaries.append(
            DefenceSummary(
                title=title,
                about=_first_line(defence) if defence else "The verifier alone.",
                run=run,
                reason=reason,
                detects=bool(limits),
                flagged_limit=float(np.median([*limits.values()])) if limits else None,
                limits={printable(speaker): limit for speaker, limit in sorted(limits.items())},
                genuine_rejected=tally.rate(
                    genuine if run else [],
                    lambda row, t=title: not tally.accepted(row, t),  # type: ignore[misc]
                ),
                strangers_accepted=tally.rate(
                    strangers if run else [],
                    lambda row, t=title: tally.accepted(row, t),  # type: ignore[misc]
                ),
                eer=tally.eer(title) if run else None,
                worst_attack=worst[0].title if worst else "",
                worst_accepted=worst[1].accepted if worst else Rate(),
            )
        )
    return summaries


def why_not(defence: Defence) -> str:
    """Why a defence judged nothing."""
    try:
        defence.views(np.zeros(SAMPLE_RATE, np.float32), np.random.default_rng(0))
    except NotRunError as error:
        return str(error)
    if defence.detects:
        return "it found no limit: each speaker's is set by the genuine claims of others"
    return "nothing was judged behind it"


def populations(tally: Tally) -> dict[str, list[float]]:
    """Scores of the verifier alone: genuine, honest impostors, and each family of attacks."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in tally.rows:
        entry, score = tally.plan.suite.entries[row.attack], row.scores.get("none")
        if score is None:
            continue
        names = {"target": "genuine", "nontarget": "impostors"}
        name = names.get(entry.built.label, entry.built.family)
        if name != "control":
            found[name].append(score)
    return dict(found)


def histograms(scores: dict[str, list[float]]) -> tuple[list[float], list[Histogram]]:
    """Common edges, and how many of each population lie between them."""
    values = [value for part in scores.values() for value in part] or [0.0, 1.0]
    low, high = math.floor(min(values) * 20) / 20, math.ceil(max(values) * 20) / 20
    edges = np.linspace(low, max(high, low + 0.05), BINS + 1)
    return [round(float(edge), 6) for edge in edges], [
        Histogram(population=name, counts=np.histogram(part, edges)[0].tolist())
        for name, part in scores.items()
    ]


def det_lines(scores: dict[str, list[float]]) -> list[DetLine]:
    """Genuine against each other population, thinned to what a picture shows."""
    lines = []
    genuine = scores.get("genuine", [])
    for name, part in scores.items():
        if name == "genuine" or not genuine or not part:
            continue
        curve = det_curve(genuine, part)
        corners = np.flatnonzero(np.diff(curve.p_fa, prepend=2) + np.diff(curve.p_miss, prepend=-1))
        kept = corners[np.unique(np.linspace(0, len(corners) - 1, 150).astype(int))]
        lines.append(
            DetLine(
                name=name, eer=curve.eer().rate,
                p_fa=[round(float(v), 6) for v in curve.p_fa[kept]],
                p_miss=[round(float(v), 6) for v in curve.p_miss[kept]],
            )
        )  # fmt: skip
    return lines


def curves(attacks: Sequence[AttackSummary]) -> list[Curve]:
    """Attacks that were run at several budgets: what they reach over what they spend."""
    series: dict[tuple[str, Axis], list[AttackSummary]] = defaultdict(list)
    for summary in attacks:
        if summary.against != "none" or "none" not in summary.cells:
            continue
        title = summary.title.partition("[")[2].rstrip("]")
        for axis in AXES:
            if axis in summary.budget:
                spent = {"target_seconds": "seconds"}.get(axis, axis)
                fixed = [part for part in title.split(",") if not part.startswith(f"{spent}=")]
                name = f"{summary.name} {' '.join(fixed)}".strip()
                series[name, axis].append(summary)
    found = []
    for (name, axis), members in series.items():
        if len({member.budget[axis] for member in members}) > 1:
            ordered = sorted(members, key=lambda member: member.budget[axis])
            points = [
                CurvePoint(at=m.budget[axis], accepted=m.cells["none"].accepted, quality=m.quality)
                for m in ordered
            ]
            found.append(Curve(name=name, axis=axis, points=points))
    return found


def groups(tally: Tally, pairs: Sequence[PairInfo]) -> list[Group]:
    """Accepted spoofs by corpus, by pitch of the target's voice, and by duration."""
    ways: dict[Literal["corpus", "voice", "duration"], Callable[[CaseResult], str]] = {
        "corpus": lambda row: source_of(pairs[row.pair].target) or "one corpus",
        "voice": lambda row: pairs[row.pair].voice,
        "duration": lambda row: _duration(row.quality.get("seconds")),
    }
    found: dict[tuple[Literal["corpus", "voice", "duration"], str, str], list[CaseResult]] = {}
    for row in tally.rows:
        entry = tally.plan.suite.entries[row.attack]
        if row.outcome not in _MET or (
            entry.built.family == "control" and entry.built.label == "spoof"
        ):
            continue
        family = _BONAFIDE.get(entry.built.label, entry.built.family)
        for by, group_of in ways.items():
            found.setdefault((by, group_of(row), family), []).append(row)
    return [
        Group(by=by, group=group, family=family, accepted=tally.rate(rows, tally.accepted))
        for (by, group, family), rows in sorted(found.items())
    ]


_BONAFIDE = {"target": "genuine", "nontarget": "impostors"}


def pair_infos(plan: Plan, checks: Iterable[CaseResult]) -> list[PairInfo]:
    """What is known of each pair."""
    infos = []
    for pair, row in zip(plan.pairs, checks, strict=True):
        pitch = row.about.get("target_pitch")
        infos.append(
            PairInfo(
                source=printable(pair.source), target=printable(pair.target),
                enrol=[printable(name) for name in pair.enrol], line=pair.line,
                source_speaker=printable(speaker_of(pair.source)),
                target_speaker=printable(speaker_of(pair.target)),
                voice=_voice(pair.target, pitch), usable=row.outcome == "judged",
                problem=row.message,
            )
        )  # fmt: skip
    return infos


def case_list(tally: Tally) -> list[Case]:
    """Every case, scores to all the digits a float32 holds."""
    return [
        Case(
            id=row.case, pair=row.pair, attack=row.attack, outcome=row.outcome,  # type: ignore[arg-type]
            accepted=tally.accepted(row), scores=_rounded(row.scores),
            suspicion={key: round(value, 9) for key, value in row.suspicion.items()},
            peers=_rounded(row.peers), quality=_finite(row.quality), queries=row.queries,
            crc=row.crc, message=row.message, voice=printable(tally.speakers(row)[1]),
        )
        for row in tally.rows
    ]  # fmt: skip


def problems(plan: Plan, checks: Sequence[CaseResult], rows: Sequence[CaseResult]) -> list[Problem]:
    """What was not measured, and why; bad recordings first."""
    found: list[Problem] = []
    for row in checks:
        if row.outcome == "bad-file":
            where = f"pair {row.pair}" + (f", line {line}" if (line := _line(plan, row)) else "")
            found.append(
                Problem(kind="bad-file", where=where, message=row.message,
                        cases=len(plan.suite.entries))
            )  # fmt: skip
    counted: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        if row.outcome != "judged":
            message = row.message if row.outcome != "refused" else row.message.split(": ", 1)[-1]
            counted[row.outcome, plan.suite.entries[row.attack].title, message] += 1
    for (kind, where, message), cases in sorted(counted.items()):
        found.append(Problem(kind=kind, where=where, message=message, cases=cases))  # type: ignore[arg-type]
    return found


def unusable(checks: Sequence[CaseResult]) -> Rate:
    """The share of the pairs that could not be used, without an interval: it is no sample."""
    bad = sum(row.outcome == "bad-file" for row in checks)
    share = bad / len(checks) if checks else 1.0
    return Rate(value=share, low=share, high=share, count=bad, cases=len(checks))


def is_attack(summary: AttackSummary) -> bool:
    """Whether it is no control."""
    return summary.family != "control"


def _first_line(thing: Attack | object) -> str:
    return (type(thing).__doc__ or "").strip().splitlines()[0]


def _budget(budget: Budget) -> dict[str, float]:
    return {axis: value for axis in AXES if (value := getattr(budget, axis)) is not None}


def _medians(rows: Sequence[CaseResult]) -> dict[str, float]:
    keys = {key for row in rows for key in row.quality}
    medians = {key: _median(r.quality[key] for r in rows if key in r.quality) for key in keys}
    return {key: median for key, median in sorted(medians.items()) if median is not None}


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return round(float(np.median(known)), 4) if known else None


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _rounded(scores: dict[str, float | None]) -> dict[str, float | None]:
    return {key: None if value is None else round(value, 9) for key, value in scores.items()}


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    tenths = round(seconds, 1)  # a conversion lacks a few milliseconds of what it converts
    return "0 to 2 s" if tenths < 2 else "2 to 4 s" if tenths < 4 else "4 s and more"


def _voice(name: str, pitch: float | None) -> str:
    for word in ("female", "male"):
        if word in name.lower():
            return word
    if pitch is None:
        return "unknown"
    return "low voice" if pitch < LOW_VOICE else "high voice"


def _line(plan: Plan, row: CaseResult) -> int:
    return plan.pairs[row.pair].line
