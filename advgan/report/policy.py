"""What a guard must withstand: limits in a YAML file, and whether a report keeps them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from advgan.report.schema import AttackSummary, Cell, DefenceSummary, LimitCheck, Rate, Verdict
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
    measured = _Measured(policy, point, attacks, defences, unusable)
    checks = [*measured.claims(), *measured.attacked(), *measured.absent()]
    failed = [check for check in checks if not check.passed]
    wrong = measured.no_verdict(bool(checks))
    return Verdict(
        passed=not failed and not wrong, policy=name, policy_sha256=sha256,
        point=policy.point or point, defence=policy.defence, judge=policy.judge,
        sentence=f"No verdict: {wrong}." if wrong else _sentence(checks, failed), checks=checks,
    )  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    """What a report found, held against a policy; see :func:`verdict`."""

    policy: Policy
    point: str
    attacks: Sequence[AttackSummary]
    defences: Sequence[DefenceSummary]
    unusable: Rate

    @property
    def defence(self) -> DefenceSummary | None:
        """The policy's, if it was run."""
        return next((d for d in self.defences if d.title == self.policy.defence and d.run), None)

    @property
    def elsewhere(self) -> str | None:
        """The policy's operating point, where the report was made at another."""
        return None if self.policy.point == self.point else self.policy.point

    def claims(self) -> Iterator[LimitCheck]:
        """Limits on honest claims, and on what could not be used."""
        if self.defence is None:
            return
        policy, must, note = self.policy, True, "not measured"
        rejected, strangers = self.defence.genuine_rejected, self.defence.strangers_accepted
        if self.elsewhere:
            at = {attack.name: attack.points.get(self.elsewhere, Rate()) for attack in self.attacks}
            rejected = _complement(at.get("genuine", Rate()))
            strangers = at.get("zero-effort", Rate())
        for what, limit, rate in (
            ("genuine rejected", policy.genuine_rejected, rejected),
            ("strangers accepted", policy.strangers_accepted, strangers),
            ("pairs that cannot be used", policy.unusable_pairs, self.unusable),
        ):
            yield from self._check(what, None, limit, rate, note, must)

    def attacked(self) -> Iterator[LimitCheck]:
        """Limits on the attacks of the suite."""
        policy, must = self.policy, self.policy.not_run == "fail"
        for summary in self.attacks:
            if summary.family != "control" and summary.against in ("none", policy.defence):
                limit = policy.limit(summary.name, summary.title, summary.family)
                rate = summary.cells.get(policy.defence, Cell(accepted=Rate())).accepted
                if self.elsewhere:
                    rate = summary.points.get(self.elsewhere, Rate())
                note = f"not run: {summary.reason}"
                yield from self._check(summary.title, summary.index, limit, rate, note, must)

    def absent(self) -> Iterator[LimitCheck]:
        """Limits on attacks that the suite does not have."""
        policy, must = self.policy, self.policy.not_run == "fail"
        had = {known for summary in self.attacks for known in (summary.name, summary.title)}
        for title in sorted(policy.attacks.keys() - had):
            limit, note = policy.attacks[title], "not run: the suite has none"
            yield from self._check(title, None, limit, Rate(), note, must)

    def _check(
        self, what: str, attack: int | None, limit: float | None, rate: Rate, note: str, must: bool
    ) -> Iterator[LimitCheck]:
        """One limit; nothing where there is none. ``must``: it fails where nothing was measured."""
        if limit is None:
            return
        value = rate.high if self.policy.judge == "upper" else rate.value
        passed = not must if value is None else value <= limit
        note = note if value is None else ""
        yield LimitCheck(
            what=what, attack=attack, limit=limit, value=value, passed=passed, note=note
        )

    def no_verdict(self, limited: bool) -> str:
        """Why nothing can be said, if so. ``limited``: the policy limits what the suite has."""
        policy, unusable = self.policy, self.unusable
        if unusable.value == 1:
            return f"none of the {unusable.cases} pairs has recordings that can be used"
        if self.defence is None:
            return f"the suite did not run the policy's defence, {policy.defence!r}"
        known = policy.defence == "none" and any(self.elsewhere in a.points for a in self.attacks)
        if self.elsewhere and not known:
            return f"rates at {policy.point!r} are known for the verifier alone; use --point"
        return "" if limited else "the policy sets no limit on anything that the suite has"


def _sentence(checks: Sequence[LimitCheck], failed: Sequence[LimitCheck]) -> str:
    """The verdict for a person to read."""
    unmeasured = sum(check.value is None for check in checks)
    if not failed:
        sentence = f"All {len(checks)} limits are kept"
        return sentence + (
            f", {unmeasured} of them for want of a measurement." if unmeasured else "."
        )
    worst = max(failed, key=lambda check: check.value or 0.0)
    sentence = (
        f"{len(failed)} of {len(checks)} limits are broken; worst: {worst.what}, "
        f"{per_cent(worst.value)} where at most {per_cent(worst.limit)} are allowed."
    )
    return sentence + (f" {unmeasured} were not measured." if unmeasured else "")


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
