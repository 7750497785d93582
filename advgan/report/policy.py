"""What a guard must withstand: limits in a YAML file, and whether a report keeps them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from advgan.report.schema import AttackSummary, Cell, Check, DefenceSummary, Rate, Verdict
from advgan.victim.plugins import discover
from speakerguard.errors import ConfigError
from speakerguard.settings import load_as

Share = Annotated[float, Field(ge=0, le=1)]


class Families(BaseModel):
    """Largest share accepted of any one attack of a family; None for no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversion: Share | None = None
    gradient: Share | None = None
    query: Share | None = None
    physical: Share | None = None


class Policy(BaseModel):
    """Limits at one operating point, behind one defence.

    Attributes:
        point: operating point; None for the one the report was made at.
        defence: title of the defence in use; ``none`` for the verifier alone.
        judge: whether the ``estimate`` must keep a limit, or its interval's ``upper`` end.
        genuine_rejected: largest share of genuine claims rejected.
        strangers_accepted: largest share of zero-effort claims accepted.
        families: limits for every attack of a kind.
        attacks: limits for single attacks by name or title; they replace their family's.
        unusable_pairs: largest share of the pairs with a recording that cannot be used.
        not_run: whether a named or limited attack that was not run fails the policy; one that the
            suite does not have is not run either.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str | None = None
    defence: str = "none"
    judge: Literal["estimate", "upper"] = "estimate"
    genuine_rejected: Share | None = None
    strangers_accepted: Share | None = None
    unusable_pairs: Share | None = None
    families: Families = Families()
    attacks: dict[str, Share] = Field(default_factory=dict)
    not_run: Literal["pass", "fail"] = "pass"

    def limit(self, name: str, title: str, family: str) -> float | None:
        """The limit for an attack, the most special one first."""
        for key in (title, name):
            if key in self.attacks:
                return self.attacks[key]
        found: float | None = getattr(self.families, family, None)
        return found


def load_policy(path: Path | None) -> Policy:
    """Read a policy; the shipped one for None.

    Raises:
        ConfigError: a key is unknown (the message names the nearest), a value impossible, or an
            attack of that name does not exist.
    """
    path = path or Path(__file__).with_name("policy.yaml")
    policy = load_as(path, Policy)
    known = discover()
    for title in policy.attacks:
        name = title.partition("[")[0]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{path}: attacks.{title}: no such attack{hint}")
    return policy


def verdict(
    policy: Policy,
    name: str,
    sha256: str,
    point: str,
    attacks: Sequence[AttackSummary],
    defences: Sequence[DefenceSummary],
    unusable: Rate,
) -> Verdict:
    """Whether the limits of a policy are kept, each of them.

    Args:
        unusable: share of the pairs that could not be used.
    """
    checks: list[Check] = []
    mine = next((d for d in defences if d.title == policy.defence and d.run), None)
    wrong = "" if mine else f"the suite did not run the policy's defence, {policy.defence!r}"
    other = policy.point is not None and policy.point != point

    def check(
        what: str, attack: int | None, limit: float | None, rate: Rate, note: str, must: bool
    ) -> None:
        if limit is None:
            return
        value = rate.high if policy.judge == "upper" else rate.value
        unmeasured = value is None and must
        passed = not unmeasured and (value is None or value <= limit)
        checks.append(
            Check(what=what, attack=attack, limit=limit, value=value, passed=passed,
                  note=note if value is None else "")
        )  # fmt: skip

    if mine:
        rejected, strangers = mine.genuine_rejected, mine.strangers_accepted
        if other:
            at = {a.name: a.points.get(policy.point or "", Rate()) for a in attacks}
            rejected = _complement(at.get("genuine", Rate()))
            strangers = at.get("zero-effort", Rate())
        note = "not measured"
        check("genuine rejected", None, policy.genuine_rejected, rejected, note, True)
        check("strangers accepted", None, policy.strangers_accepted, strangers, note, True)
        check("pairs that cannot be used", None, policy.unusable_pairs, unusable, note, True)
    must = policy.not_run == "fail"
    for summary in attacks:
        if summary.family != "control" and summary.against in ("none", policy.defence):
            limit = policy.limit(summary.name, summary.title, summary.family)
            cell = summary.cells.get(policy.defence, Cell(accepted=Rate()))
            rate = cell.accepted
            if other:
                rate = summary.points.get(policy.point or "", Rate())
            check(summary.title, summary.index, limit, rate, f"not run: {summary.reason}", must)
    had = {known for summary in attacks for known in (summary.name, summary.title)}
    for title in sorted(policy.attacks.keys() - had):
        check(title, None, policy.attacks[title], Rate(), "not run: the suite has none", must)
    if unusable.value == 1:
        wrong = f"none of the {unusable.cases} pairs has recordings that can be used"
    failed = [check for check in checks if not check.passed]
    failed.sort(key=lambda check: -(check.value or 0.0))
    if other:
        wrong = wrong or (
            "" if policy.defence == "none" and any(policy.point in a.points for a in attacks)
            else f"rates at {policy.point!r} are known for the verifier alone; use --point"
        )  # fmt: skip
    if not checks:
        wrong = wrong or "the policy sets no limit on anything that the suite has"
    passed = not failed and not wrong
    unmeasured = sum(check.value is None for check in checks)
    if wrong:
        sentence = f"No verdict: {wrong}."
    elif passed:
        sentence = f"All {len(checks)} limits are kept"
        sentence += f", {unmeasured} of them for want of a measurement." if unmeasured else "."
    else:
        first = failed[0]
        sentence = (
            f"{len(failed)} of {len(checks)} limits are broken; worst: {first.what}, "
            f"{per_cent(first.value)} where at most {per_cent(first.limit)} are allowed."
        )
        sentence += f" {unmeasured} were not measured." if unmeasured else ""
    return Verdict(
        passed=passed, policy=name, policy_sha256=sha256, point=policy.point or point,
        defence=policy.defence, judge=policy.judge, sentence=sentence, checks=checks,
    )  # fmt: skip


def _complement(rate: Rate) -> Rate:
    """The share of the others."""
    if rate.value is None or rate.low is None or rate.high is None:
        return Rate()
    return Rate(
        value=1 - rate.value, low=1 - rate.high, high=1 - rate.low,
        count=rate.cases - rate.count, cases=rate.cases,
    )  # fmt: skip


def per_cent(value: float | None) -> str:
    """A share for a person to read."""
    return "not measured" if value is None else f"{100 * value:.1f} %"
