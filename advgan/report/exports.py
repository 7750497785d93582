"""The report for other programs: official scoring packages, spreadsheets, build servers."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

from advgan.report.schema import Case, DefenceSummary, Report
from advgan.victim.defences import flags
from speakerguard.files import replace_file
from speakerguard.sound.audio import printable


def write_all(report: Report, out: Path) -> list[str]:
    """Write every export into ``out``; returns the files' names.

    Raises:
        UsageError: a file cannot be written.
    """
    texts = {
        "scores-sasv.txt": sasv(report),
        "scores-asvspoof5.tsv": asvspoof5_scores(report),
        "key-asvspoof5.tsv": asvspoof5_key(report),
        "trials.csv": trials(report),
        "junit.xml": junit(report),
    }
    for name, text in texts.items():
        replace_file(out / name, text)
    return list(texts)


def sasv(report: Report) -> str:
    """``speaker utterance score target|nontarget|spoof`` a line, as SASV 2022 and a_dcf read it.

    What the verifier refused to judge has a score below all others.
    """
    rows = (
        (_speaker(report, case), case.id, repr(_score(report, case)), _label(report, case))
        for case in _scored(report)
    )
    return "".join(" ".join(row) + "\n" for row in rows)


def asvspoof5_scores(report: Report) -> str:
    """``spk filename cm-score asv-score sasv-score``, "-" where there is no such score.

    The countermeasure's score is minus the suspicion of the defence ``countermeasure``; of the
    first detecting defence in suites without it.
    """
    detecting = [defence.title for defence in report.defences if defence.detects]
    detecting.sort(key=lambda title: not title.startswith("countermeasure"))
    detector = detecting[0] if detecting else ""
    lines = ["spk\tfilename\tcm-score\tasv-score\tsasv-score"]
    for case in _scored(report):
        doubt = case.suspicion.get(detector)
        cm = "-" if doubt is None else repr(-doubt)
        score = repr(_score(report, case))
        lines.append(f"{_speaker(report, case)}\t{case.id}\t{cm}\t{score}\t{score}")
    return "\n".join(lines) + "\n"


def asvspoof5_key(report: Report) -> str:
    """``spk filename cm-label asv-label`` of the same trials."""
    lines = ["spk\tfilename\tcm-label\tasv-label"]
    for case in _scored(report):
        label = _label(report, case)
        cm = "spoof" if label == "spoof" else "bonafide"
        lines.append(f"{_speaker(report, case)}\t{case.id}\t{cm}\t{label}")
    return "\n".join(lines) + "\n"


def trials(report: Report) -> str:
    """Every case behind each defence, for a spreadsheet: score, suspicion, whether accepted.

    ``voice`` is the speaker whose voice was presented, or was made into another's.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    titles = [defence.title for defence in report.defences]
    doubts = {title for case in report.cases for title in case.suspicion}
    doubting = [title for title in titles if title in doubts]
    quality = sorted({key for case in report.cases for key in case.quality})
    writer.writerow(
        ["case", "attack", "label", "source", "target", "voice", "outcome", "accepted", "queries",
         *(f"score {title}" for title in titles), *(f"suspicion {title}" for title in doubting),
         *(f"accepted {title}" for title in titles), *quality, "message"]
    )  # fmt: skip
    for case in report.cases:
        pair, attack = report.pairs[case.pair], report.attacks[case.attack]
        writer.writerow(
            [case.id, attack.title, attack.label, pair.source, pair.target, case.voice,
             case.outcome, case.accepted, case.queries,
             *(case.scores.get(title) for title in titles),
             *(case.suspicion.get(title) for title in doubting),
             *(_accepted(report, case, d, d.title in doubts) for d in report.defences),
             *(case.quality.get(key) for key in quality), case.message]
        )  # fmt: skip
    return buffer.getvalue()


def junit(report: Report) -> str:
    """One test for each limit of the policy, in the XML that build servers read."""
    checks = report.verdict.checks
    suite = ElementTree.Element(
        "testsuite",
        name=printable(f"speakerguard report {report.provenance.suite}"),
        tests=str(len(checks)),
        failures=str(sum(not check.passed for check in checks)),
        skipped=str(sum(check.passed and check.value is None for check in checks)),
    )
    for check in checks:
        test = ElementTree.SubElement(
            suite, "testcase", classname="policy", name=printable(check.what)
        )
        shown = "not measured" if check.value is None else f"{100 * check.value:.2f} %"
        text = f"{shown}, limit {100 * check.limit:.2f} %"
        if not check.passed:
            ElementTree.SubElement(test, "failure", message=text).text = printable(check.note)
        elif check.value is None:
            ElementTree.SubElement(test, "skipped", message=printable(check.note))
        else:
            ElementTree.SubElement(test, "system-out").text = text
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _scored(report: Report) -> list[Case]:
    return [case for case in report.cases if case.outcome in ("judged", "refused")]


def _score(report: Report, case: Case) -> float:
    if (score := case.scores.get("none")) is not None:
        return score
    known = (s for other in report.cases if (s := other.scores.get("none")) is not None)
    return min(known, default=0.0) - 1


def _accepted(report: Report, case: Case, defence: DefenceSummary, doubting: bool) -> bool | None:
    """Whether a claim gets past a defence and the verifier; None where they never met."""
    limit = defence.limits.get(report.pairs[case.pair].target_speaker)
    if doubting and limit is None:  # nobody else's claims to learn one from
        return None
    if case.outcome == "refused" and defence.title in report.attacks[case.attack].cells:
        return False
    if defence.title not in case.scores:
        return None
    score = case.scores[defence.title]
    flagged = flags(case.suspicion.get(defence.title), limit)
    return score is not None and score >= report.threat.threshold and not flagged


def _speaker(report: Report, case: Case) -> str:
    return report.pairs[case.pair].target_speaker.replace(" ", "_")


def _label(report: Report, case: Case) -> str:
    return report.attacks[case.attack].label
