"""Renew the README's table of four rows, and what `speakerguard models` says, from the figures.

    python tools/summary.py

Error rates come from ``results.json`` and its like in ``checkpoints/``, which ``make results``
writes, speed from ``results/bench.json``, which ``make bench`` writes. Nothing is measured here.
``checkpoints/figures.json`` has what the command shows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pages import ROOT, renew

from speakerguard.cli.ending import ending
from speakerguard.embedders.catalogue import FIGURES_FILE
from speakerguard.files import replace_file
from speakerguard.network import checkpoint

BENCH = ROOT / "results" / "bench.json"
ROWS = {  # title, folder of the model; the name is the bench's
    "fused": ("**fused**, the default: the three below", "fused"),
    "guard-int8": ("**guard-int8**, trained here", "guard-int8"),
    "campplus": ("CAM++, in this program", "campplus"),
    "resemblyzer": ("Resemblyzer, in this program", "resemblyzer"),
}
CONDITIONS = ("full", "first 2 s", "babble 5 dB")
FIGURES = ("results-asnorm.json", "results.json")  # as it decides by default, else by plain cosines


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    renew("summary", summary())
    replace_file(checkpoint.folder() / FIGURES_FILE, json.dumps(figures(), indent=2) + "\n")


def summary() -> str:
    """The table, and what must be said of its figures."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))
    folders = {name: checkpoint.folder() / folder for name, (_, folder) in ROWS.items()}
    made = table({name: rates(folder) for name, folder in folders.items()}, bench)
    if bench["busy"]:
        made += "\n\nThe machine was busy when speed was measured: only the ratios count."
    return made


def figures() -> dict[str, dict[str, float]]:
    """What is known of each model, as :class:`speakerguard.embedders.catalogue.Listed` has it."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))["systems"]
    found: dict[str, dict[str, float]] = {}
    for name in checkpoint.available():
        errors, speed = rates(checkpoint.folder() / name), bench.get(name, {})
        known = {"eer": errors.get("full"), "eer_2s": errors.get("first 2 s")}
        known |= {"cold": speed.get("cold_s"), "speed": speed.get("throughput_1")}
        found[name] = {key: round(value, 6) for key, value in known.items() if value is not None}
    return found


def rates(folder: Path) -> dict[str, float]:
    """Pooled equal error rates in [0, 1] by condition, of those that were measured."""
    for name in FIGURES:
        if (path := folder / name).exists():
            found = json.loads(path.read_text(encoding="utf-8"))["conditions"]
            return {c: found[c][-1]["eer"] for c in CONDITIONS if c in found}
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
