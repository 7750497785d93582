"""Why the ancestor of this project lost all recognition: four heads on one trunk, one budget.

    python tools/ablation.py [--config configs/ablation.yaml] [--out runs/ablation]

Every head sits on the shipped guard's trunk, which stays frozen. Each is judged untrained, as it
was bolted on back then, and after the same steps on the same batches. The table goes between
``<!-- ablation -->`` and ``<!-- /ablation -->`` on the pages that have these, the figures to
``checkpoints/guard/ablation.json``. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pages import ROOT, renew

from speakerguard.cli.ending import ending
from speakerguard.files import replace_file
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.training.config import TrainConfig, load
from speakerguard.training.guard_task import GuardTask
from speakerguard.training.loop import Loop

HEADS = {
    "mean": "temporal mean, affine (the paper's)",
    "tdnn": "TDNN over time, attentive pooling (the guard's)",
    "embedding-conv": "convolutions along the pooled embedding (the ancestor's TDNN)",
    "embedding-dense": "dense 512-512-128 on the pooled embedding (the ancestor's)",
}


def main() -> None:
    """Judge every head, train it, judge it again, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "configs/ablation.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    with ending("ablation"):
        compare(options.config, options.out)


def compare(path: Path, out: Path) -> None:
    """Judge every head by the configuration in ``path``, and write.

    Raises:
        SpeakerguardError: of a kind that says what to do.
    """
    config = load(path)
    trunk = checkpoint.fingerprint(checkpoint.resolve(str(config.init)) / checkpoint.MODEL_FILE)
    rows = {head: judge(config, head, out / trunk) for head in HEADS}
    replace_file(
        checkpoint.folder() / "guard" / "ablation.json",
        json.dumps({"steps": config.steps, "heads": rows}, indent=2) + "\n",
    )
    renew("ablation", table(rows, config.steps))


def judge(config: TrainConfig, head: str, out: Path) -> dict[str, float]:
    """Equal error rate on dev of one head, in [0, 1], untrained and trained."""
    model = ModelConfig.model_validate(config.model.model_dump() | {"head": head})
    run = config.model_copy(update={"model": model, "out": out / head})
    task = GuardTask(run)
    trainer = Loop(run, task)
    done = out / head / "untrained.json"
    if not done.exists():
        assert task.dev is not None
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(task.dev.eer(task.average)), encoding="utf-8")
    untrained = float(json.loads(done.read_text(encoding="utf-8")))
    print(f"{head}: untrained {100 * untrained:.1f} %", flush=True)
    trained = trainer.run()
    print(f"{head}: trained {100 * trained:.1f} %", flush=True)
    return {"untrained": untrained, "trained": trained}


def table(rows: dict[str, dict[str, float]], steps: int) -> str:
    """The figures as Markdown, in per cent."""
    lines = [f"| head | EER % untrained | after {steps} steps |", "|---|---|---|"]
    for head, row in rows.items():
        lines.append(
            f"| {HEADS[head]} | {100 * row['untrained']:.1f} | {100 * row['trained']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
