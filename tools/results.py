"""Measure the guard beside its peers on one trial list; renew every table made from that.

    python tools/results.py [--systems guard guard+asnorm campplus resemblyzer]

A system is a model by plain cosines, or with its scores set against its cohort, as it decides by
default. Each one's figures go to ``results.json`` or ``results-asnorm.json`` in the model's folder
below ``checkpoints/``, with pictures of the scores that the guard decides by. Figures of the same
weights on the same list are kept, unless ``--again``. What stands
between ``<!-- results -->`` and ``<!-- /results -->`` in README.md (all systems) and in a model's
card (its own) is replaced; nothing in there is written by hand.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from pages import SPEECH, renew

from speakerguard import __version__
from speakerguard.cli.ending import ending
from speakerguard.evaluation.evaluate import as_json, evaluate, score_trials
from speakerguard.evaluation.heldout import held_out
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.plots import plot_det, plot_scores
from speakerguard.evaluation.trials import ScoreTable, Trial, read_trials
from speakerguard.files import replace_file, replace_section
from speakerguard.network import checkpoint
from speakerguard.verification import calibration
from speakerguard.verification.scoring import Scoring
from speakerguard.verification.verifier import Verifier

CONDITIONS: dict[str, dict[str, float]] = {
    "full": {},
    "first 3 s": {"seconds": 3.0},
    "first 2 s": {"seconds": 2.0},
    "babble 5 dB": {"babble": 5.0},
}
NORMALISED = "+asnorm"
Results = dict[str, Any]


def main() -> None:
    """Measure what is not measured yet, then write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    systems = [checkpoint.DEFAULT, checkpoint.DEFAULT + NORMALISED, "campplus", "resemblyzer"]
    parser.add_argument("--systems", nargs="+", default=systems)
    parser.add_argument("--root", type=Path, default=SPEECH)
    parser.add_argument("--again", action="store_true", help="measure even what was measured")
    options = parser.parse_args()
    found = {name: measure(name, options.root, options.again) for name in options.systems}
    renew("results", f"{table(found)}\n\n{unseen(found)}")
    for model in {name.removesuffix(NORMALISED) for name in found}:
        own = {name: r for name, r in found.items() if name.removesuffix(NORMALISED) == model}
        replace_section(checkpoint.folder() / model / "README.md", "results", card(own))


def measure(system: str, root: Path, again: bool) -> Results:
    """The figures of one system; read from its folder if they are of these weights and trials."""
    normalised = system.endswith(NORMALISED)
    verifier = Verifier(system.removesuffix(NORMALISED), score_norm=normalised)
    trials = read_trials(root / "trials.txt")
    digest = sha256((root / "trials.txt").read_bytes()).hexdigest()
    about = {
        "system": system,
        "fingerprint": verifier.scoring.fingerprint,
        "version": __version__,
        "trials_sha256": digest,
    }
    path = verifier.embedder.folder / ("results-asnorm.json" if normalised else "results.json")
    if path.exists() and not again:
        kept: Results = json.loads(path.read_text(encoding="utf-8"))
        if {key: kept.get(key) for key in about} == about:
            print(f"{system}: kept, measured before ({path})")
            return kept
    tables = {}
    for name, how in CONDITIONS.items():
        tables[name] = score_trials(verifier, trials, root, **how)  # type: ignore[arg-type]
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
    replace_file(path, json.dumps(results, indent=2) + "\n")
    default = Scoring(path.parent, verifier.fingerprint)
    decides = default.unit == verifier.scoring.unit
    if (path.parent / checkpoint.MODEL_FILE).exists() and decides:
        _draw(verifier, tables)
    return results


def _calibrated(
    verifier: Verifier, full: ScoreTable, trials: list[Trial]
) -> calibration.CalibrationFile:
    """A model's thresholds; those of a peer are learned here, as `speakerguard calibrate` does."""
    path = verifier.scoring.calibration_path
    if not path.exists():
        weights = calibration.source_weights(full)
        path.parent.mkdir(parents=True, exist_ok=True)
        made_by = verifier.scoring.fingerprint
        calibration.calibrate(full, made_by, "trials.txt", weights=weights).save(path)
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
    lines = [
        "| EER % [95 % over speakers] | | " + " | ".join(sources) + " |",
        "|---|---|" + "---|" * len(sources),
    ]
    for condition in CONDITIONS:
        rows = {name: results["conditions"][condition] for name, results in found.items()}
        for place, (name, row) in enumerate(rows.items()):
            cells = []
            for column, result in enumerate(row):
                best = min(other[column]["eer"] for other in rows.values())
                mark = "**" if len(rows) > 1 and result["eer"] == best else ""
                cells.append(f"{mark}{100 * result['eer']:.2f}{mark}{_interval(result)}")
            lines.append(f"| {'' if place else condition} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
