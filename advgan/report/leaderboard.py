"""``speakerguard leaderboard``: several reports side by side, as a Markdown table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speakerguard.errors import UsageError
from speakerguard.sound.audio import printable

if TYPE_CHECKING:
    from advgan.report.schema import DefenceSummary, Rate, Report

FAMILIES = ("conversion", "gradient", "query", "physical")


def leaderboard(reports: list[Path]) -> None:
    """Compare guards by the report.json of each, strongest first."""
    from advgan.report.compare import load_report

    print(table([load_report(path) for path in reports]))


def table(reports: list[Report]) -> str:
    """One row a report; of each family the attack that got through most, as shares in per cent.

    The best defence is the one with the least sum of what the worst attack gets through and what
    genuine users are rejected; guards are ordered by that sum, then by their worst attack alone.
    """
    head = ["guard", "genuine rejected", "EER", *(f"worst {name}" for name in FAMILIES),
            "worst behind best defence", "pairs"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for report in sorted(reports, key=lambda r: (_price(_best(r)), _worst_alone(r))):
        alone = _alone(report)
        best = _best(report)
        share, rejected = (100 * (r.value or 0.0) for r in (best.worst_accepted,
                                                            best.genuine_rejected))  # fmt: skip
        eer = "–" if alone.eer is None else f"{100 * alone.eer:.1f}"
        cells = [_cell(report.threat.model), _shown(alone.genuine_rejected), eer]
        cells += [_family(report, family) for family in FAMILIES]
        cells += [f"{share:.0f} ({_cell(best.title)}, rejecting {rejected:.0f})"]
        cells += [str(report.provenance.pairs_used)]
        lines.append("| " + " | ".join(cells) + " |")
    suites = {(report.provenance.suite_sha256, report.provenance.data_sha256) for report in reports}
    if len(suites) > 1:
        lines.append("\nThe reports differ in suite or data, so their rows cannot be compared.")
    claims = {f"{report.threat.point}, seed {report.provenance.seed}" for report in reports}
    if len(claims) > 1:
        points = printable("; ".join(sorted(claims)))
        lines.append(
            f"\nThe reports differ in operating point or seed ({points}), so their rows cannot be "
            "compared."
        )
    attackers = {
        (report.provenance.code, *sorted(report.provenance.weights.items())) for report in reports
    }
    if len(attackers) > 1:
        lines.append(
            "\nThe reports were made by different versions of this program or of its networks, so "
            "not all rows met the same attacks."
        )
    return "\n".join(lines)


def _family(report: Report, family: str) -> str:
    rates = [
        (attack.cells["none"].accepted, attack.title)
        for attack in report.attacks
        if attack.family == family
        and "none" in attack.cells
        and attack.cells["none"].accepted.value is not None
    ]
    if not rates:
        return "not run"
    rate, title = max(rates, key=lambda found: found[0].value or 0.0)
    return f"{_shown(rate)} {_cell(title)}"


def _cell(text: str) -> str:
    """What a report says, in a cell of a table on any terminal."""
    return printable(text).replace("|", "\\|")


def _best(report: Report) -> DefenceSummary:
    run = [d for d in report.defences if d.run and d.worst_accepted.value is not None]
    if not run:
        raise UsageError(
            f"the report of {report.threat.model} judged nothing: {report.verdict.sentence} Leave "
            "it out."
        )
    return min(run, key=_price)


def _price(defence: DefenceSummary) -> float:
    """What the worst attack gets through, and what genuine users are rejected."""
    return (defence.worst_accepted.value or 0.0) + (defence.genuine_rejected.value or 0.0)


def _worst_alone(report: Report) -> float:
    return _alone(report).worst_accepted.value or 0.0


def _alone(report: Report) -> DefenceSummary:
    for defence in report.defences:
        if defence.title == "none":
            return defence
    raise UsageError(
        f"the report of {report.threat.model} does not have the verifier alone among its defences, "
        "so it is damaged. Make it again."
    )


def _shown(rate: Rate) -> str:
    if rate.value is None:
        return "–"
    return f"{100 * rate.value:.0f} [{100 * (rate.low or 0):.0f}–{100 * (rate.high or 0):.0f}]"
