"""The report as data: everything the page shows is in here, and nothing else is computed for it.

``schema.json`` beside this file is the JSON schema of :class:`Report`, for other programs; a test
keeps the two together. Rates are shares in [0, 1]. All that depends on the clock is in ``timing``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Literal["speakerguard-report-1"] = "speakerguard-report-1"
SCHEMA_FILE = Path(__file__).with_name("schema.json")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rate(_Part):
    """A share of cases, with its 95 % interval.

    The interval resamples speakers; where no resampling can vary, because all cases ended alike,
    and under five target speakers, it is the exact binomial one for as many cases as there are
    target speakers.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0
    cases: int = 0


class Cell(_Part):
    """One attack behind one defence, at the frozen threshold.

    ``sasv_eer`` and ``a_dcf`` pool genuine, honest impostors and this attack's spoofs;
    ``min_t_dcf`` takes a detecting defence as countermeasure before the verifier.
    """

    accepted: Rate
    adaptive: bool = False
    sasv_eer: float | None = None
    spf_eer: float | None = None
    a_dcf: float | None = None
    min_t_dcf: float | None = None


class AttackSummary(_Part):
    """What one attack of the suite achieved; ``cells`` are by defence title."""

    index: int
    name: str
    title: str
    family: Literal["control", "conversion", "gradient", "query", "physical"]
    label: Literal["target", "nontarget", "spoof"]
    knowledge: str
    about: str
    against: str
    budget: dict[str, float]
    cases: int
    outcomes: dict[str, int]
    reason: str = ""
    cells: dict[str, Cell]
    points: dict[str, Rate] = Field(description="accepted at the other operating points")
    quality: dict[str, float] = Field(description="medians over the cases")
    queries: float | None = None
    peers: dict[str, Rate] = Field(description="accepted by models it was not aimed at")


class DefenceSummary(_Part):
    """A defence, and what it costs honest users; ``none`` is the verifier alone."""

    title: str
    about: str
    run: bool
    reason: str = ""
    detects: bool
    flagged_limit: float | None = Field(
        default=None, description="median of the limits of suspicion"
    )
    limits: dict[str, float] = Field(
        default={}, description="suspicion above which it rejects, by claimed speaker"
    )
    genuine_rejected: Rate
    strangers_accepted: Rate
    eer: float | None
    worst_attack: str = ""
    worst_accepted: Rate = Rate()


class Histogram(_Part):
    """How one population's scores lie; counts between successive ``Report.edges``."""

    population: str
    counts: list[int]


class DetLine(_Part):
    """Miss against false accept rate, genuine against one population."""

    name: str
    eer: float
    p_fa: list[float]
    p_miss: list[float]


class CurvePoint(_Part):
    """Accepted share at one value of what an attack spends."""

    at: float
    accepted: Rate
    quality: dict[str, float]


class Curve(_Part):
    """One attack over its budget."""

    name: str
    axis: Literal["epsilon", "snr", "queries", "target_seconds"]
    points: list[CurvePoint]


class Group(_Part):
    """Accepted spoofs of a family, for one kind of case."""

    by: Literal["corpus", "voice", "duration"]
    group: str
    family: str
    accepted: Rate


class Case(_Part):
    """One attack on one pair. ``id`` is what ``--case`` takes."""

    id: str
    pair: int
    attack: int
    outcome: Literal["judged", "refused", "not-run", "failed"]
    accepted: bool
    scores: dict[str, float | None]
    suspicion: dict[str, float]
    peers: dict[str, float | None]
    quality: dict[str, float]
    queries: int
    crc: int
    message: str = ""
    voice: str = Field(default="", description="the speaker the audio is of, or was made from")


class PairInfo(_Part):
    """Who attacks whom."""

    source: str
    target: str
    enrol: list[str]
    line: int
    source_speaker: str
    target_speaker: str
    voice: str
    usable: bool
    problem: str = ""


class Worst(_Part):
    """A case worth hearing. Media are data URIs."""

    case: str
    score: float
    margin: float
    replayed: float = Field(description="the score when the case was run again for this page")
    command: str
    audio: dict[str, str]
    pictures: dict[str, str]


class LimitCheck(_Part):
    """One limit of the policy, and whether it is kept."""

    what: str
    attack: int | None
    limit: float
    value: float | None
    passed: bool
    note: str = ""


class Verdict(_Part):
    """The policy's answer."""

    passed: bool
    policy: str
    policy_sha256: str
    point: str
    defence: str
    judge: str
    sentence: str
    checks: list[LimitCheck]


class Problem(_Part):
    """Something that was not measured, and how many cases that concerns."""

    kind: Literal["bad-file", "not-run", "failed", "refused"]
    where: str
    message: str
    cases: int


class Threat(_Part):
    """What the attackers were given, and where the threshold came from."""

    model: str
    fingerprint: str
    point: str
    threshold: float
    threshold_from: str
    points: dict[str, float]
    unit: str = Field(default="cosine", description="of all scores and thresholds")
    knowledge: dict[str, list[str]]
    epsilon: list[float]
    queries: list[int]
    target_seconds: float
    seen: str
    overlap: str


class Change(_Part):
    """A figure now and in an earlier report."""

    what: str
    before: float | None
    now: float | None
    clear: bool = Field(description="whether the two intervals have nothing in common")


class Comparison(_Part):
    """What changed since an earlier report."""

    earlier: str
    notes: list[str]
    changes: list[Change]


class RunProvenance(_Part):
    """What made this report; the same of all this gives the same report, but for ``timing``."""

    version: str
    code: str
    weights: dict[str, str] = {}
    suite: str
    suite_sha256: str
    data: str
    data_sha256: str
    pairs_used: int
    pairs_listed: int
    seed: int
    machine: dict[str, str]
    packages: dict[str, str]


class Timing(_Part):
    """All that depends on the clock; ``seconds`` of work, over all workers and calls."""

    started: str
    seconds: float
    workers: int
    case_seconds: dict[str, float]


class Report(_Part):
    """The whole report."""

    format: Literal["speakerguard-report-1"] = FORMAT
    verdict: Verdict
    threat: Threat
    attacks: list[AttackSummary]
    defences: list[DefenceSummary]
    edges: list[float]
    histograms: list[Histogram]
    det: list[DetLine]
    curves: list[Curve]
    groups: list[Group]
    worst: list[Worst]
    pairs: list[PairInfo]
    cases: list[Case]
    problems: list[Problem]
    limits: list[str]
    comparison: Comparison | None = None
    provenance: RunProvenance
    timing: Timing


def schema_text() -> str:
    """The JSON schema as ``schema.json`` holds it."""
    schema: dict[str, Any] = Report.model_json_schema()
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
