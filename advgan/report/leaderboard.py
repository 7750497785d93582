"""``speakerguard leaderboard``: several reports side by side, as a Markdown table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advgan.report.schema import Rate, Report

FAMILIES = ("conversion", "gradient", "query", "physical")


def leaderboard(reports: list[Path]) -> None:
    """Compare guards by the report.json of each, strongest first."""
    from advgan.report.compare import load_report

    print(table([load_report(path) for path in reports]))


def table(reports: list[Report]) -> str:
    """One row a report; of each family the attack that got through most, as shares in per cent.

    Guards are ordered by the worst attack of all behind their best defence, then alone.
    """
    head = ["guard", "genuine rejected", "EER", *(f"worst {name}" for name in FAMILIES),
            "worst behind best defence", "pairs"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for report in sorted(reports, key=lambda r: (_best(r)[1], _worst_alone(r))):
        alone = next(d for d in report.defences if d.title == "none")
        name, share = _best(report)
        eer = "–" if alone.eer is None else f"{100 * alone.eer:.1f}"
        cells = [report.threat.model, _shown(alone.genuine_rejected), eer]
        cells += [_family(report, family) for family in FAMILIES]
        cells += [f"{100 * share:.0f} ({name})", str(report.provenance.pairs_used)]
        lines.append("| " + " | ".join(cells) + " |")
    suites = {(report.provenance.suite_sha256, report.provenance.data_sha256) for report in reports}
    if len(suites) > 1:
        lines.append("\nThe reports differ in suite or data, so their rows cannot be compared.")
    return "\n".join(lines)


def _family(report: Report, family: str) -> str:
    rates = [
        (attack.cells["none"].accepted, attack.title)
        for attack in report.attacks
        if attack.family == family and "none" in attack.cells
    ]
    if not rates:
        return "not run"
    rate, title = max(rates, key=lambda found: found[0].value or 0.0)
    return f"{_shown(rate)} {title}"


def _best(report: Report) -> tuple[str, float]:
    """The defence whose worst attack gets through least, and how much that is."""
    run = [defence for defence in report.defences if defence.run]
    best = min(run, key=lambda defence: defence.worst_accepted.value or 0.0)
    return ("none" if best.title == "none" else best.title), best.worst_accepted.value or 0.0


def _worst_alone(report: Report) -> float:
    return next(d.worst_accepted.value or 0.0 for d in report.defences if d.title == "none")


def _shown(rate: Rate) -> str:
    if rate.value is None:
        return "–"
    return f"{100 * rate.value:.0f} [{100 * (rate.low or 0):.0f}–{100 * (rate.high or 0):.0f}]"
