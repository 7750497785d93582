"""The report as one HTML file: nothing is fetched, nothing is computed but percentages.

It is readable with scripts off, by keyboard, on paper, in light and dark.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from advgan.report import draw
from advgan.report.markup import bullets, number, percent, rate, table, terms
from advgan.report.schema import Case, Cell, Rate, Report, Worst

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "media-src data:"
)
FAMILIES = ("control", "conversion", "gradient", "query", "physical")
NONE = '<td class="none">–</td>'


def page(report: Report) -> str:
    """The page of a report, UTF-8 HTML."""
    sections = [
        ("verdict", "Verdict", _verdict(report)),
        ("threat", "Threat model", _threat(report)),
        ("matrix", "Attacks and defences", _matrix(report)),
        ("metrics", "Metrics and quality", _metrics(report)),
        ("scores", "Scores", _scores(report)),
        ("curves", "Security curves", _curves(report)),
        ("transfer", "Transfer", _transfer(report)),
        ("worst", "Worst cases", _worst(report)),
        ("groups", "By corpus, voice and duration", _groups(report)),
        ("cases", "All cases", _cases(report)),
        ("problems", "Not measured", _problems(report)),
        ("compare", "Since an earlier report", _comparison(report)),
        ("provenance", "Provenance", _provenance(report)),
        ("limits", "Limits and misuse", bullets(map(escape, report.limits))),
    ]
    shown = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in shown)
    bodies = "".join(
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{title}</h2>{body}'
        "</section>"
        for name, title, body in shown
    )
    title = f"Robustness of {escape(report.threat.model)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>"
        '<link rel="icon" href="data:,">'
        f"<style>{_file('page.css')}</style></head><body>"
        f'<a class="skip" href="#matrix">Skip to the results</a><header><h1>{title}</h1>'
        f'<p class="dim">{escape(report.provenance.data)}; suite '
        f"{escape(report.provenance.suite)}; {escape(report.timing.started)}</p>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>{bodies}</main>'
        f"<script>{_file('page.js')}</script></body></html>\n"
    )


def _verdict(report: Report) -> str:
    verdict = report.verdict
    word = "PASS" if verdict.passed else "FAIL"
    rows = [
        [
            escape(check.what), percent(check.value), percent(check.limit),
            '<span class="good">kept</span>' if check.passed and check.value is not None
            else f'<span class="warn">{escape(check.note)}</span>' if check.passed
            else f'<strong class="bad">broken</strong> {escape(check.note)}',
        ]
        for check in sorted(verdict.checks, key=lambda c: (c.passed, c.value is None))
    ]  # fmt: skip
    return (
        f'<div class="verdict {word.lower()}" role="status"><strong>{word}</strong>'
        f"{escape(verdict.sentence)}</div>"
        + table(
            f"Policy {verdict.policy}, at {verdict.point}, defence {verdict.defence}; the "
            f"{'upper end of the interval' if verdict.judge == 'upper' else 'estimate'} counts.",
            ["what", "measured", "limit", ""],
            rows,
        )
    )


def _threat(report: Report) -> str:
    threat = report.threat
    knows = "; ".join(f"{what}: {', '.join(names)}" for what, names in threat.knowledge.items())
    points = ", ".join(f"{name} {value:.4f}" for name, value in threat.points.items())
    return terms(
        {
            "guard": f"{threat.model}, weights {threat.fingerprint}",
            "threshold": f"{threat.threshold:.4f} at {threat.point}, frozen before any attack",
            "where it comes from": threat.threshold_from,
            "all operating points": points,
            "scores are": threat.unit,
            "attackers know": knows,
            "attackers have": f"{threat.seen}, at most {threat.target_seconds:g} s of it",
            "ε": ", ".join(f"{value:g}" for value in threat.epsilon) or "–",
            "queries": ", ".join(map(str, threat.queries)) or "–",
            "speakers in common": threat.overlap,
        }
    )


def _matrix(report: Report) -> str:
    defences = [defence for defence in report.defences if defence.run]
    head = "".join(
        f'<th scope="col" title="{escape(d.about)}">'
        f"{'verifier alone' if d.title == 'none' else escape(d.title)}</th>"
        for d in defences
    )
    rows = []
    costs = (
        ("genuine rejected", [d.genuine_rejected for d in defences]),
        ("strangers accepted", [d.strangers_accepted for d in defences]),
    )
    rows.append(_family_row("what each defence costs and buys", len(defences)))
    for name, rates in costs:
        cells = "".join(f"<td>{rate(share)}</td>" for share in rates)
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    worst = "".join(
        f'<td title="{escape(d.worst_attack)}">{rate(d.worst_accepted)}</td>' for d in defences
    )
    eers = "".join(f"<td>{percent(d.eer)}</td>" for d in defences)
    rows.append(f'<tr><th scope="row">EER, genuine against strangers</th>{eers}</tr>')
    rows.append(f'<tr><th scope="row">worst attack, accepted</th>{worst}</tr>')
    limits = "".join(f"<td>{number(d.flagged_limit)}</td>" for d in defences)
    rows.append(f'<tr><th scope="row">suspicion above which it rejects</th>{limits}</tr>')
    for family in FAMILIES:
        members = [a for a in report.attacks if a.family == family]
        if members:
            rows.append(_family_row(f"{family}: accepted", len(defences)))
        for attack in members:
            hot = attack.label != "target"  # genuine users are to be accepted
            cells = "".join(_heat(attack.cells.get(d.title), hot) for d in defences)
            why = (
                f'<br><small class="warn">{escape(attack.reason)}</small>'
                if not attack.cells
                else ""
            )
            rows.append(
                f'<tr><th scope="row" title="{escape(attack.about)}">{escape(attack.title)}{why}'
                f"</th>{cells}</tr>"
            )
    return (
        "<p>Share of claims accepted at the frozen threshold, with 95 % intervals over speakers. "
        "<b>▲</b> marks attacks that adapt to the defence they stand behind, straight through "
        "whatever in it has no gradient; all others were made against the verifier alone. The "
        "countermeasure rejects below a log-likelihood ratio of 0, as <code>verify "
        "--countermeasure</code> does; where a detecting defence has no limit of its own, each "
        "speaker's is set by the genuine claims of all others.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Matrix"><table class="matrix">'
        f'<thead><tr><th scope="col">attack</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _family_row(name: str, columns: int) -> str:
    return f'<tr class="family"><th colspan="{columns + 1}">{escape(name)}</th></tr>'


def _heat(cell: Cell | None, hot: bool) -> str:
    if cell is None:
        return NONE
    heat = f' style="--heat:{cell.accepted.value or 0:.2f}"' if hot else ""
    return f"<td{heat}>{'▲ ' if cell.adaptive else ''}{rate(cell.accepted)}</td>"


def _metrics(report: Report) -> str:
    rows = []
    for attack in report.attacks:
        cell = attack.cells.get("none")
        if cell is None or attack.label != "spoof":
            continue
        tandem = [c.min_t_dcf for c in attack.cells.values() if c.min_t_dcf is not None]
        quality = attack.quality
        rows.append(
            [
                escape(attack.title), rate(cell.accepted), percent(cell.spf_eer),
                percent(cell.sasv_eer), number(cell.a_dcf),
                number(min(tandem, default=None)),
                number(quality.get("snr"), 1), number(quality.get("lsd"), 1),
                number(quality.get("stoi"), 2), number(attack.queries, 0),
            ]
        )  # fmt: skip
    return (
        "<p>Success beside what it cost the speech. SPF-EER: genuine against these spoofs; "
        "SASV-EER: against strangers and these spoofs; a-DCF: both, with the weights of the a_dcf "
        "package; min t-DCF: with the best detecting defence before the verifier. Quality is the "
        "median against the attacker's own speech; it means nothing where the attack plays other "
        "words.</p>"
        + table(
            "Verifier alone",
            ["attack", "accepted", "SPF-EER", "SASV-EER", "a-DCF", "min t-DCF", "SNR dB",
             "LSD dB", "STOI", "queries"],
            rows,
        )
    )  # fmt: skip


def _scores(report: Report) -> str:
    marks = {report.threat.point: report.threat.threshold}
    return (
        f'<div class="pair"><div><h3>Populations</h3>'
        f"{draw.histogram(report.histograms, report.edges, marks, report.threat.unit)}</div>"
        f"<div><h3>Detection error trade-off</h3>{draw.det(report.det)}</div></div>"
    )


def _curves(report: Report) -> str:
    axes = list(dict.fromkeys(curve.axis for curve in report.curves))
    parts = [
        f"<div><h3>{escape(draw.AXIS_NAMES[axis])}</h3>{draw.security(report.curves, axis)}</div>"
        for axis in axes
    ]
    return f'<div class="pair">{"".join(parts)}</div>' if parts else ""


def _transfer(report: Report) -> str:
    names = sorted({name for attack in report.attacks for name in attack.peers})
    if not names:
        return ""
    rows = [
        [
            escape(attack.title),
            rate(attack.cells["none"].accepted),
            *(rate(attack.peers.get(name, Rate())) for name in names),
        ]
        for attack in report.attacks
        if attack.peers and "none" in attack.cells
    ]
    return "<p>The same audio before models that no attack was aimed at.</p>" + table(
        "Accepted at each model's own threshold", ["attack", report.threat.model, *names], rows
    )


def _worst(report: Report) -> str:
    intro = (
        "<p>The attacks that got furthest over the threshold, attacks and pairs taking turns. "
        "Every case was run again for this page, and its command runs it once more.</p>"
    )
    return intro + "".join(_worst_case(report, worst) for worst in report.worst)


def _worst_case(report: Report, worst: Worst) -> str:
    pair, attack = (int(part) for part in worst.case.split("."))
    info, title = report.pairs[pair], report.attacks[attack].title
    same = "the same" if worst.score == worst.replayed else f"{worst.replayed:+.4f}"
    clips = "".join(
        f"<figure><figcaption>{name}</figcaption>"
        f'<img src="{worst.pictures[name]}" alt="Spectrogram of the {name}, 0 to 8 kHz">'
        f'<audio controls preload="none" src="{worst.audio[name]}" aria-label="Play the {name}">'
        "</audio></figure>"
        for name in ("source", "target", "attack")
        if name in worst.audio
    )
    over = "over" if worst.margin >= 0 else "under"
    return (
        f'<article class="case"><h3>{escape(title)}: {escape(info.source_speaker)} as '
        f"{escape(info.target_speaker)}</h3><p>Case {worst.case}: score {worst.score:+.4f}, "
        f"{abs(worst.margin):.4f} {over} the threshold; run again: {same}.</p>"
        f'<div class="clips">{clips}</div><p><code>{escape(worst.command)}</code></p></article>'
    )


def _groups(report: Report) -> str:
    parts = []
    for by, title in (("corpus", "Corpus"), ("voice", "Target's voice"), ("duration", "Duration")):
        mine = [group for group in report.groups if group.by == by]
        families = list(dict.fromkeys(group.family for group in mine))
        names = list(dict.fromkeys(group.group for group in mine))
        found = {(group.group, group.family): group.accepted for group in mine}
        rows = [
            [escape(name), *(rate(found.get((name, family), Rate())) for family in families)]
            for name in names
        ]
        parts.append(table(f"{title}: accepted", [title.lower(), *families], rows))
    return "".join(parts)


def _cases(report: Report) -> str:
    rows = "".join(_case_row(report, case) for case in report.cases)
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("case", "attack", "source", "target", "outcome", "score", "SNR dB", "queries")
    )
    options = "".join(
        f'<option value="{value}">{name}</option>'
        for value, name in (("", "all"), ("accepted", "accepted"), ("rejected", "rejected"),
                            ("other", "not judged"))
    )  # fmt: skip
    return (
        f'<details class="cases"><summary>{len(report.cases):,} cases; find one and run it again '
        'with <code>--case</code></summary><div class="find"><label>find '
        '<input id="find-text" type="search" placeholder="pgd vctk"></label><label>show '
        f'<select id="find-outcome">{options}</select></label>'
        '<span id="find-said" role="status"></span></div><div class="scroll" tabindex="0" '
        f'role="region" aria-label="All cases"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _case_row(report: Report, case: Case) -> str:
    pair, attack = report.pairs[case.pair], report.attacks[case.attack]
    judged = case.outcome in ("judged", "refused")
    outcome = ("accepted" if case.accepted else "rejected") if judged else "other"
    shown = case.outcome if case.outcome != "judged" else outcome
    tint = ' class="bad"' if case.accepted and attack.label == "spoof" else ""
    return (
        f'<tr data-outcome="{outcome}"><td>{case.id}</td><td class="left">{escape(attack.title)}'
        f'</td><td class="left">{escape(pair.source_speaker)}</td><td class="left">'
        f'{escape(pair.target_speaker)}</td><td class="left"><span{tint}>{shown}</span></td>'
        f"<td>{number(case.scores.get('none'), 4)}</td>"
        f"<td>{number(case.quality.get('snr'), 1)}</td><td>{case.queries}</td></tr>"
    )


def _problems(report: Report) -> str:
    if not report.problems:
        return "<p>Every case was run and judged.</p>"
    rows = [
        [escape(p.kind), escape(p.where), str(p.cases), escape(p.message)] for p in report.problems
    ]
    total = sum(problem.cases for problem in report.problems)
    return f"<p>{total} cases in all; none of them is in any rate, but that a refusal is a " \
        "rejection.</p>" + table("", ["what", "where", "cases", "why"], rows)  # fmt: skip


def _comparison(report: Report) -> str:
    found = report.comparison
    if found is None:
        return ""
    rows = [
        [
            escape(change.what), percent(change.before), percent(change.now),
            "intervals apart" if change.clear else '<span class="dim">within chance</span>',
        ]
        for change in found.changes
    ]  # fmt: skip
    return (
        f"<p>Compared with <code>{escape(found.earlier)}</code>.</p>"
        + bullets(map(escape, found.notes))
        + table("What changed, most first", ["what", "before", "now", ""], rows)
    )


def _provenance(report: Report) -> str:
    origin, timing = report.provenance, report.timing
    return terms(
        {
            "version": f"{origin.version}, code {origin.code}",
            "weights": report.threat.fingerprint,
            "attackers' weights": ", ".join(f"{n} {at}" for n, at in origin.weights.items())
            or "none",
            "suite": f"{origin.suite}, SHA-256 {origin.suite_sha256}",
            "policy": f"{report.verdict.policy}, SHA-256 {report.verdict.policy_sha256}",
            "data": f"{origin.data}: {origin.pairs_used} of {origin.pairs_listed} pairs, "
            f"SHA-256 {origin.data_sha256}",
            "seed": str(origin.seed),
            "machine": ", ".join(origin.machine.values()),
            "packages": ", ".join(f"{name} {at}" for name, at in origin.packages.items()),
            "time": f"{timing.started}, {timing.seconds / 60:.0f} minutes of work by "
            f"{timing.workers} workers",
        }
    )


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
