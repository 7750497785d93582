"""Measure the guard and renew what is generated: results JSON, pictures, card and README tables.

    python tools/results.py [--model guard] [--root ../shared/corpus/dev]

Everything between ``<!-- results -->`` and ``<!-- /results -->`` in README.md and in the model's
card is replaced; nothing in there is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from speakerguard import checkpoint
from speakerguard.evaluate import Result, as_json, evaluate, score_trials
from speakerguard.metrics import det_curve
from speakerguard.plots import plot_det, plot_scores
from speakerguard.trials import ScoreTable, read_trials, replace_file
from speakerguard.verifier import Verifier

CONDITIONS = {"full": None, "3 s": 3.0, "2 s": 2.0}
START, END = "<!-- results -->", "<!-- /results -->"


def main() -> None:
    """Measure every condition, then write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=checkpoint.DEFAULT)
    parser.add_argument("--root", type=Path, default=Path("../shared/corpus/dev"))
    options = parser.parse_args()
    verifier = Verifier(options.model)
    trials = read_trials(options.root / "trials.txt")
    folder = checkpoint.resolve(options.model)
    results: dict[str, list[Result]] = {}
    tables: dict[str, ScoreTable] = {}
    for name, seconds in CONDITIONS.items():
        tables[name] = score_trials(verifier, trials, options.root, seconds)
        results[name] = evaluate(tables[name], verifier.calibration.calibration.llr)
        print(f"{name}: pooled EER {100 * results[name][-1].eer:.2f} %", flush=True)
    save(folder, verifier, results, tables)
    text = f"{START}\n\n{describe(results)}\n\n{END}"
    for path in (Path("README.md"), folder / "README.md"):
        if path.exists() and START in (old := path.read_text(encoding="utf-8")):
            new = re.sub(f"{START}.*?{END}", lambda _: text, old, flags=re.DOTALL)
            replace_file(path, new)
            print(f"renewed {path}")


def save(
    folder: Path,
    verifier: Verifier,
    results: dict[str, list[Result]],
    tables: dict[str, ScoreTable],
) -> None:
    """results.json and two pictures, beside the model."""
    about = {"model": verifier.model, "fingerprint": verifier.fingerprint}
    parts = {name: json.loads(as_json(rows))["results"] for name, rows in results.items()}
    replace_file(folder / "results.json", json.dumps({**about, **parts}, indent=2) + "\n")
    curves = {name: det_curve(t.targets, t.nontargets) for name, t in tables.items()}
    plot_det(curves, folder / "det.png")
    points = verifier.calibration.points.values()
    marks = {point.name: point.threshold for point in points}
    plot_scores(tables["full"].targets, tables["full"].nontargets, folder / "scores.png", marks)


def describe(results: dict[str, list[Result]]) -> str:
    """A Markdown table: a row a source, a column a condition."""
    lines = [
        "| EER % on dev [95 % interval over speakers] | speakers | target / non-target | "
        + " | ".join(results)
        + " |",
        "|---|---|---|" + "---|" * len(results),
    ]
    for row, full in enumerate(next(iter(results.values()))):
        cells = []
        for rows in results.values():
            r = rows[row]
            interval = (
                "" if r.eer_low != r.eer_low else f" [{100 * r.eer_low:.1f}–{100 * r.eer_high:.1f}]"
            )
            cells.append(f"{100 * r.eer:.2f}{interval}")
        lines.append(
            f"| {full.name} | {full.speakers} | {full.targets} / {full.nontargets} | "
            + " | ".join(cells)
            + " |"
        )
    pooled = next(iter(results.values()))[-1]
    lines += [
        "",
        f"Pooled, full length: minDCF(0.01) {pooled.min_dcf_01:.3f}, minDCF(0.05) "
        f"{pooled.min_dcf_05:.3f}, actDCF(0.05) {pooled.act_dcf_05:.3f}, Cllr {pooled.cllr:.3f}, "
        f"minCllr {pooled.min_cllr:.3f}. Calibrated on the same trials, so actDCF and Cllr are "
        "optimistic.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
