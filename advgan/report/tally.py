"""Rows of a run as arrays: what is accepted, how sure that is, and the metrics of each attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advgan.report.bench import CaseResult
from advgan.report.plan import Plan
from advgan.report.schema import Cell, Rate
from advgan.victim.defences import flags
from speakerguard.errors import UsageError
from speakerguard.evaluation.bootstrap import share_interval
from speakerguard.evaluation.metrics import FloatArray, eer
from speakerguard.evaluation.spoof_metrics import a_dcf, min_t_dcf, sasv_eer, spf_eer
from speakerguard.sound.corpus import speaker_of


@dataclass(frozen=True, eq=False)
class Tally:
    """The judged and refused rows of a run.

    Attributes:
        threshold: of the operating point.
    """

    plan: Plan
    rows: Sequence[CaseResult]
    threshold: float

    @cached_property
    def limits(self) -> dict[str, dict[str, float]]:
        """Suspicion above which a defence rejects, by its title and the target speaker.

        That of the defence itself, where it has one. Else, for each speaker, it flags the wanted
        share of the genuine claims of all *others*, so that nobody's own claim sets the limit it
        is measured at.
        """
        fixed = {defence.title: defence.limit for defence in self.plan.suite.built_defences}
        genuine = [row for row in self.rows if self._name(row) == "genuine"]
        found: dict[str, dict[str, float]] = {}
        for title in self._doubting:
            own = fixed.get(title)
            for speaker in {self.speakers(row)[0] for row in self.rows}:
                if own is not None:
                    found.setdefault(title, {})[speaker] = own
                    continue
                others = [
                    row.suspicion[title]
                    for row in genuine
                    if title in row.suspicion and self.speakers(row)[0] != speaker
                ]
                if others:
                    share = 1 - self.plan.suite.flagged
                    limit = float(np.quantile(others, share, method="higher"))
                    found.setdefault(title, {})[speaker] = limit
        return found

    def speakers(self, row: CaseResult) -> tuple[str, str]:
        """The claimed speaker, and whose voice the audio is or was made from."""
        pair = self.plan.pairs[row.pair]
        voice = self.plan.suite.entries[row.attack].built.voice
        recording = pair.target if voice == "target" else pair.source
        if voice == "other":
            recording = next(self.plan.bystanders(row.pair), recording)
        return speaker_of(pair.target), speaker_of(recording)

    def score(self, row: CaseResult, defence: str = "none") -> float | None:
        """The score behind a defence; None where that flags the claim, or the guard refuses it."""
        limit = self.limits.get(defence, {}).get(self.speakers(row)[0])
        return None if flags(row.suspicion.get(defence), limit) else row.scores.get(defence)

    def accepted(self, row: CaseResult, defence: str = "none") -> bool:
        """Whether the claim got through."""
        return reaches(self.score(row, defence), self.threshold)

    def of(self, attack: int) -> list[CaseResult]:
        """The judged and refused rows of one attack."""
        return self._by_attack.get(attack, [])

    def labelled(self, label: str, defence: str) -> list[CaseResult]:
        """All rows of bona fide controls with this label that met a defence."""
        return [
            row
            for attack, entry in enumerate(self.plan.suite.entries)
            if entry.built.label == label
            for row in self.of(attack)
            if self.met(row, defence)
        ]

    def rate(
        self,
        rows: Sequence[CaseResult],
        passes: Callable[[CaseResult], bool],
    ) -> Rate:
        """The share of ``rows`` for which ``passes`` holds, with its interval."""
        if not rows:
            return Rate()
        hits = np.array([passes(row) for row in rows])
        claimed, spoke = zip(*map(self.speakers, rows), strict=True)
        low, high = share_interval(hits, claimed, spoke, self.plan.suite.replicates)
        return Rate(
            value=float(hits.mean()), low=low, high=high, count=int(hits.sum()), cases=len(rows)
        )

    def cell(self, attack: int, defence: str) -> Cell | None:
        """Everything about one attack behind one defence; None where they never met."""
        rows = [row for row in self.of(attack) if self.met(row, defence)]
        if not rows:
            return None
        entry = self.plan.suite.entries[attack]
        cell = Cell(
            accepted=self.rate(rows, lambda row: self.accepted(row, defence)),
            adaptive=entry.against == defence != "none",
        )
        if entry.built.label != "spoof":
            return cell
        spoofs = self.scores(rows, defence)
        targets = self.scores(self.labelled("target", defence), defence)
        nontargets = self.scores(self.labelled("nontarget", defence), defence)
        if len(targets) and len(nontargets):
            cell.sasv_eer = sasv_eer(targets, nontargets, spoofs).rate
            cell.spf_eer = spf_eer(targets, spoofs).rate
            cell.a_dcf = a_dcf(targets, nontargets, spoofs).value
        cell.min_t_dcf = self._tandem(rows, defence)
        return cell

    def scores(self, rows: Sequence[CaseResult], defence: str) -> FloatArray:
        """Scores to rank by, float64 (n,): what is flagged or refused lies below all others."""
        scores = (self.score(row, defence) for row in rows)
        return np.array([self._lowest if s is None else s for s in scores], dtype=np.float64)

    def eer(self, defence: str) -> float | None:
        """Equal error rate of genuine against honest impostors."""
        targets, nontargets = (self.labelled(label, defence) for label in ("target", "nontarget"))
        if not targets or not nontargets:
            return None
        return eer(self.scores(targets, defence), self.scores(nontargets, defence)).rate

    def _tandem(self, spoofs: Sequence[CaseResult], defence: str) -> float | None:
        """min t-DCF with a detecting defence as countermeasure."""
        kinds = [self.labelled("target", defence), self.labelled("nontarget", defence), spoofs]
        kinds = [[row for row in rows if defence in row.suspicion] for rows in kinds]
        if not all(kinds):
            return None
        passed = [
            float(np.mean([reaches(row.scores[defence], self.threshold) for row in rows]))
            for rows in kinds
        ]
        doubts = [[-row.suspicion[defence] for row in rows] for rows in kinds]
        try:
            bonafide = [*doubts[0], *doubts[1]]
            return min_t_dcf(bonafide, doubts[2], 1 - passed[0], passed[1], passed[2]).value
        except UsageError:  # the verifier alone stops all, or so little that nothing matters
            return None

    @cached_property
    def _run(self) -> set[str]:
        """Titles of the defences that could be run."""
        return {title for row in self.rows for title in row.scores}

    @cached_property
    def _doubting(self) -> set[str]:
        """Titles of those that call audio suspicious."""
        return {title for row in self.rows for title in row.suspicion}

    @cached_property
    def _lowest(self) -> float:
        """Below every score of the run."""
        known = (s for row in self.rows for s in row.scores.values() if s is not None)
        return min(known, default=0.0) - 1.0

    @cached_property
    def _by_attack(self) -> dict[int, list[CaseResult]]:
        found: dict[int, list[CaseResult]] = {}
        for row in self.rows:
            found.setdefault(row.attack, []).append(row)
        return found

    def met(self, row: CaseResult, defence: str) -> bool:
        """Whether a row was judged behind a defence, with a limit where that detects."""
        if defence in self._doubting and self.speakers(row)[0] not in self.limits.get(defence, {}):
            return False
        if row.outcome == "refused":  # whatever stands before the verifier
            against = self.plan.suite.entries[row.attack].against
            return defence == "none" or (against in ("none", defence) and defence in self._run)
        return defence in row.scores

    def _name(self, row: CaseResult) -> str:
        return self.plan.suite.entries[row.attack].built.name


def reaches(score: float | None, threshold: float) -> bool:
    """Whether a score is accepted; None, the lack of one, never is."""
    return score is not None and score >= threshold
