"""Renew the README's table of four rows from the figures that were measured before.

    python tools/summary.py

Error rates come from ``results.json`` and its like in ``checkpoints/``, which ``make results``
writes, speed from ``results/bench.json``, which ``make bench`` writes. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pages import ROOT, renew

from speakerguard.cli.ending import ending
from speakerguard.network import checkpoint

BENCH = ROOT / "results" / "bench.json"
ROWS = {  # title, folder of the model; the name is the bench's
    "guard": ("**guard**", "guard"),
    "guard-int8": ("**guard-int8**", "guard-int8"),
    "campplus": ("CAM++, the teacher", "campplus"),
    "resemblyzer": ("Resemblyzer", "resemblyzer"),
}
CONDITIONS = ("full", "first 2 s", "babble 5 dB")
PLAIN = "results.json"
FIGURES = ("results-asnorm.json", PLAIN)  # as it decides by default, else by plain cosines


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    renew("summary", summary())


def summary() -> str:
    """The table, and what must be said of its figures."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))
    folders = {name: checkpoint.folder() / folder for name, (_, folder) in ROWS.items()}
    made = table({name: rates(folder) for name, folder in folders.items()}, bench)
    if not any((folders["guard-int8"] / name).exists() for name in FIGURES):
        plain = rates(folders["guard"], (PLAIN,))
        made += (
            "\n\nOf `guard-int8` only plain cosines were measured; by those `guard` errs in "
            f"{percent(plain.get('full'))} and {percent(plain.get('first 2 s'))} %."
        )
    if bench["busy"]:
        made += " The machine was busy when speed was measured: only the ratios count."
    return made


def rates(folder: Path, figures: tuple[str, ...] = FIGURES) -> dict[str, float]:
    """Pooled equal error rates in [0, 1] by condition, of those that were measured."""
    for name in figures:
        if (path := folder / name).exists():
            found = json.loads(path.read_text(encoding="utf-8"))["conditions"]
            return {c: found[c][-1]["eer"] for c in CONDITIONS if c in found}
    if (path := folder / "quantisation.json").exists():
        found = json.loads(path.read_text(encoding="utf-8"))["eer"]
        named = {row["condition"]: row["pooled_int8"] for row in found}
        return {c: named[k] for c, k in (("full", "full"), ("first 2 s", "2 s")) if k in named}
    return {}


def table(errors: dict[str, dict[str, float]], bench: dict[str, Any]) -> str:
    """The rows as Markdown; a dash is what was not measured."""
    lines = [
        "| | EER %: full | first 2 s | babble 5 dB | one claim, cold | speech s/s, one thread "
        "| memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (title, _) in ROWS.items():
        cells = [percent(errors[name].get(condition)) for condition in CONDITIONS]
        speed = bench["systems"].get(name)
        cells += [
            f"{speed['cold_s']:.2f} s" if speed else "–",
            f"{speed['throughput_1']:.0f}" if speed else "–",
            f"{speed['cold_mb']:.0f} MB" if speed else "–",
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def percent(rate: float | None) -> str:
    """A rate in [0, 1] in per cent."""
    return "–" if rate is None else f"{100 * rate:.2f}"


if __name__ == "__main__":
    with ending("summary"):
        main()
