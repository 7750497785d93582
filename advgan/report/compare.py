"""What changed since an earlier report, from the two JSON files."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from advgan.report.schema import FORMAT, Change, Comparison, Rate, Report
from speakerguard.errors import UsageError


def load_report(path: Path) -> Report:
    """A report's JSON.

    Raises:
        UsageError: it cannot be read, or is not of this version's schema.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path}: not a {FORMAT} file ({key}: {first['msg']}). Give the report.json of a "
            "report made by this version."
        ) from None


def compare(earlier: Report, now: Report, name: str) -> Comparison:
    """Attack by attack, alone and behind each defence that both ran."""
    notes = [
        f"{what} differs: {before} then, {after} now"
        for what, before, after in (
            ("the model", earlier.threat.fingerprint, now.threat.fingerprint),
            ("what scores are", earlier.threat.unit, now.threat.unit),
            ("the threshold", f"{earlier.threat.threshold:.4f}", f"{now.threat.threshold:.4f}"),
            ("the suite", earlier.provenance.suite_sha256[:12], now.provenance.suite_sha256[:12]),
            ("the data", earlier.provenance.data_sha256[:12], now.provenance.data_sha256[:12]),
            ("the seed", earlier.provenance.seed, now.provenance.seed),
            ("the code", earlier.provenance.code, now.provenance.code),
            ("the attacker", _attacker(earlier), _attacker(now)),
        )
        if before != after
    ]
    changes: list[Change] = []
    then, today = _rates(earlier), _rates(now)
    for what in {**today, **then}:
        before, rate = then.get(what, Rate()), today.get(what, Rate())
        if what not in then:
            notes.append(f"new: {what}")
        elif before.value != rate.value:
            apart = rate.value is None or _apart(before, rate)
            changes.append(Change(what=what, before=before.value, now=rate.value, clear=apart))
    changes.sort(key=lambda change: -abs((change.now or 0.0) - (change.before or 0.0)))
    return Comparison(earlier=name, notes=notes, changes=changes)


def _attacker(report: Report) -> str:
    """The networks it attacks with."""
    named = sorted(report.provenance.weights.items())
    return ", ".join(f"{name} {of}" for name, of in named) or "without networks"


def worse(comparison: Comparison) -> list[Change]:
    """Changes that are clear and for the worse: every rate compared is one of errors.

    What was measured then and is not now counts as well: nobody knows what became of it.
    """
    return [
        change
        for change in comparison.changes
        if change.clear and (change.now is None or change.now > (change.before or 0.0))
    ]


def _rates(report: Report) -> dict[str, Rate]:
    found = {}
    for defence in report.defences:
        if defence.run:
            behind = "" if defence.title == "none" else f" behind {defence.title}"
            found[f"genuine rejected{behind}"] = defence.genuine_rejected
            found[f"strangers accepted{behind}"] = defence.strangers_accepted
    for attack in report.attacks:
        if attack.family != "control":
            for title, cell in attack.cells.items():
                behind = "" if title == "none" else f" behind {title}"
                found[f"{attack.title}{behind}"] = cell.accepted
    return found


def _apart(a: Rate, b: Rate) -> bool:
    if None in (a.low, a.high, b.low, b.high):
        return False
    return bool(a.high < b.low or b.high < a.low)  # type: ignore[operator]
