"""Measure the guard beside its peers on one trial list; renew every table made from that.

    python tools/results.py [--systems fused+asnorm guard+asnorm campplus resemblyzer]

A system is a model by plain cosines, or with its scores set against its cohort, as it decides by
default. Each one's figures go to ``results.json`` or ``results-asnorm.json`` in the model's folder
below ``checkpoints/``, with pictures of the scores that the guard decides by. Figures of the same
weights on the same list are kept, unless ``--again``; scores are kept in ``runs/results``. Systems
are compared with CAM++ by the interval of the difference over the same draws of speakers. Calls and
people's own phones, in ``dev_phones`` beside the root, are judged by thresholds set without them.

What stands between ``<!-- results -->`` and ``<!-- /results -->`` on the pages (all systems) and in
a model's card (its own) is replaced; nothing in there is written by hand.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pages import ROOT, SPEECH, renew

from speakerguard import __version__
from speakerguard.cli.ending import ending
from speakerguard.evaluation.bootstrap import paired_bootstrap
from speakerguard.evaluation.calibrate import calibrate, source_weights
from speakerguard.evaluation.evaluate import as_json, evaluate, score_trials
from speakerguard.evaluation.heldout import held_out
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.plots import plot_det, plot_scores
from speakerguard.evaluation.trials import ScoreTable, Trial, read_trials
from speakerguard.files import replace_file, replace_section, whole_file
from speakerguard.network import checkpoint
from speakerguard.sound.corpus import source_of, speaker_of
from speakerguard.sound.speech import PAD
from speakerguard.verification.calibration import CalibrationFile
from speakerguard.verification.scoring import Scoring
from speakerguard.verification.verifier import Verifier

CONDITIONS: dict[str, dict[str, float]] = {
    "full": {},
    "first 3 s": {"seconds": 3.0},
    "first 2 s": {"seconds": 2.0},
    "babble 5 dB": {"babble": 5.0},
}
NORMALISED = "+asnorm"
SYSTEMS = [
    *("fused+asnorm", "guard+asnorm", "guard-int8+asnorm"),
    *("campplus", "campplus+asnorm", "resemblyzer", "resemblyzer+asnorm"),
]
REFERENCE = "campplus"  # what the others are compared with
PHONES = "dev_phones"
CLASSES = ("target", "nontarget")
DET = ROOT / "results" / "det.png"
KEPT = ROOT / "runs" / "results"
Results = dict[str, Any]


def main() -> None:
    """Measure what is not measured yet, then write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=SYSTEMS)
    parser.add_argument("--root", type=Path, default=SPEECH)
    parser.add_argument("--again", action="store_true", help="measure even what was measured")
    options = parser.parse_args()
    found = {name: measure(name, options.root, options.again) for name in options.systems}
    if REFERENCE in found:
        for name in found.keys() - {REFERENCE}:
            found[name] = compared(found[name], found[REFERENCE], options.root)
    picture(found, options.root)
    renew("results", f"{table(found)}\n\n{unseen(found)}\n\n{phones(found)}")
    for model in {name.removesuffix(NORMALISED) for name in found}:
        own = {name: r for name, r in found.items() if name.removesuffix(NORMALISED) == model}
        replace_section(checkpoint.folder() / model / "README.md", "results", card(own))


def measure(system: str, root: Path, again: bool) -> Results:
    """The figures of one system; read from its folder if they are of these weights and trials."""
    verifier = load(system)
    trials = read_trials(root / "trials.txt")
    digest = sha256((root / "trials.txt").read_bytes()).hexdigest()
    about = {
        "system": system,
        "fingerprint": verifier.scoring.fingerprint,
        "version": __version__,
        "padding": PAD,
        "trials_sha256": digest,
    }
    path = file_of(verifier)
    if path.exists() and not again:
        kept: Results = json.loads(path.read_text(encoding="utf-8"))
        if {key: kept.get(key) for key in about} == about:
            print(f"{system}: kept, measured before ({path})")
            return kept
    tables = {}
    for name in CONDITIONS:
        tables[name] = scored(verifier, trials, root, name, again)
        rate = det_curve(tables[name].targets, tables[name].nontargets).eer().rate
        print(f"{system}, {name}: pooled EER {100 * rate:.2f} %", flush=True)
    llr = _calibrated(verifier, tables["full"], trials).calibration.llr
    results: Results = {
        **about,
        "conditions": {
            n: json.loads(as_json(evaluate(t, llr)))["results"] for n, t in tables.items()
        },
        "held_out": {n: asdict(held_out(tables["full"], t)) for n, t in tables.items()},
    }
    if (calls := root.parent / PHONES / "trials.txt").exists():
        results["phones"] = on_phones(verifier, read_trials(calls), calls.parent)
    replace_file(path, json.dumps(results, indent=2) + "\n")
    default = Scoring(path.parent, verifier.fingerprint)
    decides = default.unit == verifier.scoring.unit
    if (path.parent / checkpoint.MODEL_FILE).exists() and decides:
        _draw(verifier, tables)
    return results


def on_phones(verifier: Verifier, trials: list[Trial], root: Path) -> Results:
    """By source: equal error rate, and what the default threshold, set elsewhere, does there."""
    point = verifier.calibration.point()
    table = scored(verifier, trials, root, "full")
    sources = np.array([source_of(name) for name in table.enrol])
    found = {}
    for source in sorted(set(sources)):
        of = [table.scores[(table.labels == k) & (sources == source)] for k in CLASSES]
        curve = det_curve(*of)
        p_miss, p_fa = curve.rates_at(point.threshold)
        found[source] = {"eer": curve.eer().rate, "p_fa": p_fa, "p_miss": p_miss}
        print(f"{verifier.model}, {source}: {found[source]}", flush=True)
    return found


def load(system: str) -> Verifier:
    """The model that a system is, deciding as the system does."""
    return Verifier(system.removesuffix(NORMALISED), score_norm=system.endswith(NORMALISED))


def file_of(verifier: Verifier) -> Path:
    """Where a system's figures are kept."""
    cosines = verifier.scoring.unit == "cosine"
    return verifier.embedder.folder / ("results.json" if cosines else "results-asnorm.json")


def scored(
    verifier: Verifier, trials: list[Trial], root: Path, condition: str, again: bool = False
) -> ScoreTable:
    """Every trial's score; those of the same weights on the same list are kept, to the last bit."""
    listed = sha256("\n".join(map(str, trials)).encode()).hexdigest()[:16]
    folder = KEPT / f"{__version__}-{PAD}-{verifier.scoring.fingerprint}-{listed}"
    path = folder / f"{condition.replace(' ', '-')}.npy"
    if again or not path.is_file():
        how: dict[str, Any] = CONDITIONS[condition]
        table = score_trials(verifier, trials, root, **how)
        with whole_file(path) as part, part.open("wb") as file:
            np.save(file, table.scores)
        return table
    return ScoreTable(
        labels=np.array([trial.label for trial in trials]),
        scores=np.load(path),
        enrol=[trial.enrol for trial in trials],
        test=[trial.test for trial in trials],
    )


def compared(results: Results, other: Results, root: Path) -> Results:
    """``results`` with the 95 % interval of its pooled equal error rate minus ``other``'s.

    The same draws of speakers meet both, so what both find hard cancels: an interval without 0
    says that they differ.
    """
    keys = ("system", "fingerprint", "version")
    if {key: results.get("against", {}).get(key) for key in keys} == {k: other[k] for k in keys}:
        return results
    trials = read_trials(root / "trials.txt")
    sides = [[speaker_of(name) for name in (t.enrol, t.test)] for t in trials]
    enrol, test = zip(*sides, strict=True)
    verifiers = [load(found["system"]) for found in (results, other)]
    differences = {}
    for name in CONDITIONS:
        one, two = (scored(verifier, trials, root, name) for verifier in verifiers)
        low, high = paired_bootstrap(one.scores, two.scores, one.labels == "target", enrol, test)
        differences[name] = {"low": low, "high": high}
        print(f"{results['system']}, {name}: compared with {other['system']}", flush=True)
    results["against"] = {key: other[key] for key in keys} | {"difference": differences}
    replace_file(file_of(verifiers[0]), json.dumps(results, indent=2) + "\n")
    return results


def _calibrated(verifier: Verifier, full: ScoreTable, trials: list[Trial]) -> CalibrationFile:
    """A model's thresholds; those of a peer are learned here, as `speakerguard calibrate` does."""
    path = verifier.scoring.calibration_path
    if not path.exists():
        weights = source_weights(full)
        path.parent.mkdir(parents=True, exist_ok=True)
        made_by = verifier.scoring.fingerprint
        calibrate(full, made_by, "trials.txt", weights=weights).save(path)
    return verifier.calibration


def _draw(verifier: Verifier, tables: dict[str, ScoreTable]) -> None:
    folder = verifier.embedder.folder
    plot_det({n: det_curve(t.targets, t.nontargets) for n, t in tables.items()}, folder / "det.png")
    marks = {point.name: point.threshold for point in verifier.calibration.points.values()}
    full = tables["full"]
    unit = verifier.scoring.unit
    plot_scores(full.targets, full.nontargets, folder / "scores.png", marks, unit)


def table(found: dict[str, Results]) -> str:
    """A Markdown table of equal error rates: a row a condition and model, a column a source."""
    sources = [row["name"] for row in next(iter(found.values()))["conditions"]["full"]]
    heads = [*sources, *_against(found)]
    lines = [
        "| EER % [95 % over speakers] | | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    for condition in CONDITIONS:
        rows = {name: results["conditions"][condition] for name, results in found.items()}
        for place, (name, row) in enumerate(rows.items()):
            cells = []
            for column, result in enumerate(row):
                best = min(other[column]["eer"] for other in rows.values())
                mark = "**" if len(rows) > 1 and result["eer"] == best else ""
                cells.append(f"{mark}{100 * result['eer']:.2f}{mark}{_interval(result)}")
            cells += [_difference(found[name], condition) for _ in _against(found)]
            lines.append(f"| {'' if place else condition} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + _note(found)


def _against(found: dict[str, Results]) -> list[str]:
    """The head of the column of differences, where there are any."""
    others = {r["against"]["system"] for r in found.values() if "against" in r}
    return [f"pooled − {other} [95 %]" for other in sorted(others)]


def _note(found: dict[str, Results]) -> str:
    """What the column of differences says."""
    if not _against(found):
        return ""
    return (
        "\n\nThe last column holds with 95 % the difference of two pooled rates, in points, over "
        "the same draws of speakers, so what both find hard cancels. Without 0 in it, they differ."
    )


def _difference(results: Results, condition: str) -> str:
    """Between which two the difference lies; an interval without 0 says that there is one."""
    if "against" not in results:
        return ""
    found = results["against"]["difference"][condition]
    return f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}"


def _interval(result: Results) -> str:
    low, high = result["eer_low"], result["eer_high"]
    return "" if low is None else f" [{100 * low:.1f}–{100 * high:.1f}]"


def unseen(found: dict[str, Results]) -> str:
    """A Markdown table of what the default operating point does to speakers who did not set it."""
    any_row = next(iter(found.values()))["held_out"]["full"]
    lines = [
        f"| at `{any_row['point']}`, set by other speakers | | false accepts % [95 % of splits] "
        "| misses % | actDCF(.05) | Cllr | minCllr |",
        "|---|---|---|---|---|---|---|",
    ]
    for condition in CONDITIONS:
        for place, (name, results) in enumerate(found.items()):
            r = results["held_out"][condition]
            lines.append(
                f"| {'' if place else condition} | {name} | {100 * r['p_fa']:.2f} "
                f"[{100 * r['p_fa_low']:.1f}–{100 * r['p_fa_high']:.1f}] | {100 * r['p_miss']:.1f} "
                f"| {r['act_dcf_05']:.3f} | {r['cllr']:.3f} | {r['min_cllr']:.3f} |"
            )
    return "\n".join(lines)


def phones(found: dict[str, Results]) -> str:
    """A Markdown table of calls and phones, whose speakers set no threshold."""
    known = {name: results["phones"] for name, results in found.items() if "phones" in results}
    if not known:
        return ""
    sources = list(next(iter(known.values())))
    heads = " | ".join(f"{source}: EER % | false accepts % | misses %" for source in sources)
    lines = [
        f"| on telephones, at the threshold above | {heads} |",
        "|---|" + "---|" * 3 * len(sources),
    ]
    for name, by_source in known.items():
        rates = [by_source[source][key] for source in sources for key in ("eer", "p_fa", "p_miss")]
        lines.append(f"| {name} | {' | '.join(f'{100 * rate:.1f}' for rate in rates)} |")
    return "\n".join(lines)


def picture(found: dict[str, Results], root: Path) -> None:
    """All systems' DET curves at full length in one picture."""
    trials = read_trials(root / "trials.txt")
    tables = {name: scored(load(name), trials, root, "full") for name in found}
    curves = {name: det_curve(t.targets, t.nontargets) for name, t in tables.items()}
    plot_det(curves, DET)


def card(found: dict[str, Results]) -> str:
    """What a model's card says of its figures."""
    system, results = list(found.items())[-1]
    pooled = results["conditions"]["full"][-1]
    return "\n\n".join(
        [
            table(found),
            unseen(found),
            f"{system}, pooled, full length: minDCF(0.01) {pooled['min_dcf_01']:.3f}, minDCF(0.05) "
            f"{pooled['min_dcf_05']:.3f}. Weights `{results['fingerprint']}`.",
        ]
    )


if __name__ == "__main__":
    with ending("results"):
        main()
