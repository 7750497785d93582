"""Ship new weights of the guard, with all that hangs on them, in order.

    make promote RUN=runs/guard-lessons      # or without RUN: the same weights, all else anew
    python tools/promote.py --list           # the steps
    python tools/promote.py --until results  # the first of them; --from and --until include theirs

Profiles, thresholds, strangers, ``model.onnx``, the fused model and every network that was trained
against the guard carry its fingerprint, and refuse another. So they are made anew here. What is
done is kept in ``runs/promote``, by fingerprint: after a kill the same command goes on. After each
step that measures, the figures are compared with those that were shipped before; where one got
worse than it may, this stops. ``--accept`` goes on all the same.

The whole takes about a day on two cores, most of it in the attackers' training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import ROOT, SPEECH
from summary import CONDITIONS

from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError
from speakerguard.journal import Journal
from speakerguard.network import checkpoint

WORSE = 0.05  # by which an error rate may grow, as a share of what it was
SLACK = 0.0005  # and besides, so that no single trial stops this
TRAIN = SPEECH.parent / "train"
PAIRS = SPEECH / "vc_pairs.tsv"
FIGURES = "results-asnorm.json"


@dataclass(frozen=True)
class Step:
    """One command, or a function of this file; ``judged`` names models whose figures it renews."""

    name: str
    command: tuple[str, ...] | Callable[[], None]
    judged: tuple[str, ...] = ()


def speakerguard(*arguments: str) -> tuple[str, ...]:
    """A command line of this environment's program."""
    return (sys.executable, "-m", "speakerguard", *arguments)


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    """A command line of a file beside this one."""
    return (sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments)


def decides(model: str) -> list[Step]:
    """The strangers and thresholds of a model."""
    trials = ("--model", model, "--trials", str(SPEECH / "trials.txt"), "--root", str(SPEECH))
    strangers = ("cohort", "--model", model, "--speech", str(TRAIN), "--most", "6")
    return [
        Step(f"{model} thresholds", speakerguard("calibrate", *trials, "--no-score-norm")),
        Step(f"{model} strangers", speakerguard(*strangers)),
        Step(f"{model} thresholds against them", speakerguard("calibrate", *trials)),
    ]


def results(*models: str) -> Step:
    """The error rates of models as they decide."""
    systems = [f"{model}+asnorm" for model in models]
    return Step(f"results of {', '.join(models)}", tool("results", "--systems", *systems), models)


def trained(config: str, name: str) -> list[Step]:
    """An attacker's training, and its weights to where they ship."""
    run = ROOT / "runs" / config
    mode = ("adversarial", "--config", str(ROOT / "configs" / f"{config}.yaml"))
    return [
        Step(f"train {name}", (sys.executable, "-m", "advgan.train", *mode)),
        Step(f"ship {name}", lambda: ship(run, name)),
    ]


def steps(run: Path | None) -> list[Step]:
    """All of them."""
    new = [] if run is None else [Step("ship guard", lambda: ship(run, "guard"))]
    small = ("--trials", str(SPEECH / "trials.txt"), "--root", str(SPEECH))
    small += ("--out", str(ROOT / "checkpoints" / "guard-int8"))
    hardened = ROOT / "checkpoints" / "hardened"
    halves = (f"{ROOT / 'checkpoints' / 'guard'}=1", f"{ROOT / 'runs' / 'hardened'}=2")
    judged = [
        Step(f"report on {model}", speakerguard(*report(model)))
        for model in ("guard", "resemblyzer", "campplus")
    ]
    return [
        *new,
        Step("guard to ONNX", speakerguard("export", "--to", "onnx")),
        *decides("guard"),
        Step("guard-int8", speakerguard("quantise", "--speech", str(TRAIN), *small)),
        *decides("guard-int8"),
        *decides("campplus"),
        *decides("resemblyzer"),
        results("guard", "guard-int8"),
        Step("fuse", tool("fuse")),
        *decides("fused"),
        results("fused"),
        Step("results", tool("results")),
        *trained("advgan-adversarial", "adversarial"),
        *trained("advgan-perturb", "perturber"),
        Step(
            "conversions for hardened",
            (
                *(sys.executable, "-m", "advgan.generate", "--corpus", str(TRAIN)),
                *("--number", "280", "-o", str(ROOT / "runs" / "conversions")),
            ),
        ),
        Step(
            "train hardened",
            speakerguard("train", "--config", str(ROOT / "configs" / "hardened.yaml")),
        ),
        Step(
            "average hardened",
            tool("average", *halves, "--out", str(hardened)),
        ),
        Step("hardened to ONNX", speakerguard("export", "--to", "onnx", "--model", "hardened")),
        *decides("hardened"),
        Step("attack table", tool("attack_table", "--limit", "40", "--readme")),
        *judged,
        Step("speed", tool("bench")),
        Step("summary", tool("summary")),
    ]


def report(model: str) -> tuple[str, ...]:
    """Arguments of the standard report."""
    out = ROOT / "out" / "report" / model
    where = ("--pairs", str(PAIRS), "--out", str(out), "--fail-on", "error")
    return ("report", "--suite", "standard", "--model", model, *where)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished training")
    parser.add_argument("--from", dest="first", help="begin with this step")
    parser.add_argument("--until", dest="last", help="end with this step")
    parser.add_argument("--list", action="store_true", help="show the steps")
    parser.add_argument("--accept", action="store_true", help="go on though figures got worse")
    options = parser.parse_args()
    wanted = chosen(steps(options.run), options.first, options.last)
    if options.list:
        print("\n".join(step.name for step in wanted))
        return
    weights = (options.run or ROOT / "checkpoints" / "guard") / checkpoint.MODEL_FILE
    fingerprint = checkpoint.fingerprint(weights)
    journal = Journal(ROOT / "runs" / "promote" / f"{fingerprint}.jsonl")
    done = {row["step"] for row in journal.read()}
    for number, step in enumerate(wanted, start=1):
        if step.name in done:
            print(f"{number}/{len(wanted)} {step.name}: done before", flush=True)
            continue
        print(f"{number}/{len(wanted)} {step.name}", flush=True)
        before = {model: figures(model) for model in step.judged}
        run(step)
        for model, known in before.items():
            worse = compared(known, figures(model))
            if worse and not options.accept:
                raise UsageError(
                    f"{model} got worse: {'; '.join(worse)}. Undo with git, or go on with --accept."
                )
        journal.append({"step": step.name})


def chosen(all_steps: list[Step], first: str | None, last: str | None) -> list[Step]:
    """The steps from one to another, both included.

    Raises:
        UsageError: there is no such step.
    """
    names = [step.name for step in all_steps]
    for name in (first, last):
        if name is not None and name not in names:
            raise UsageError(f"no step {name!r}; --list shows them.")
    start = names.index(first) if first else 0
    return all_steps[start : names.index(last) + 1 if last else None]


def run(step: Step) -> None:
    """Raises UsageError where it fails."""
    if callable(step.command):
        step.command()
    elif subprocess.run(step.command, cwd=ROOT, check=False).returncode:
        raise UsageError(f"the step {step.name!r} failed; mend it and run this again.")


def ship(run: Path, name: str) -> None:
    """Copy a finished training's weights and curves to where they ship."""
    for file in (checkpoint.MODEL_FILE, "curves.png"):
        shutil.copyfile(run / file, ROOT / "checkpoints" / name / file)


def figures(model: str) -> dict[str, float]:
    """Equal error rates in [0, 1] of a model as it decides, by condition, pooled and mean."""
    path = ROOT / "checkpoints" / model / FIGURES
    if not path.is_file():
        return {}
    conditions: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["conditions"]
    return {
        f"{condition}, {row['name']}": row["eer"]
        for condition in CONDITIONS
        for row in conditions.get(condition, [])
        if row["name"] in ("mean", "pooled")
    }


def compared(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """What got worse by more than it may.

    >>> compared({"full, mean": 0.02}, {"full, mean": 0.0202})
    []
    >>> compared({"full, mean": 0.02}, {"full, mean": 0.03})
    ['full, mean 2.00 to 3.00 %']
    """
    return [
        f"{name} {100 * rate:.2f} to {100 * after[name]:.2f} %"
        for name, rate in before.items()
        if after.get(name, 1.0) > rate * (1 + WORSE) + SLACK
    ]


if __name__ == "__main__":
    with ending("promote"):
        main()
