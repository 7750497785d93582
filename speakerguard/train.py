"""Train the guard: balanced batches, simulated channels, a teacher.

A configuration with a section ``lessons`` follows the teacher alone, frame by frame: that kind of
run is :mod:`speakerguard.training.student_task`'s; others are
:mod:`speakerguard.training.guard_task`'s.
What a run leaves and how it goes on is :mod:`speakerguard.training.loop`'s. Several GPUs:
``torchrun --nproc-per-node 2 -m speakerguard.train CONFIG``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from speakerguard.cli.ending import ending
from speakerguard.progress import Tell
from speakerguard.training.config import LessonConfig, TrainConfig, load
from speakerguard.training.guard_task import GuardTask
from speakerguard.training.loop import Loop
from speakerguard.training.student_task import StudentTask


def loop(config: TrainConfig | LessonConfig, report: Tell = print) -> Loop:
    """A run, ready to begin or to go on; of several processes only the first reports."""
    told: Tell = report if int(os.environ.get("RANK", 0)) == 0 else lambda _: None
    if isinstance(config, LessonConfig):
        return Loop(config, StudentTask(config, told), told)
    return Loop(config, GuardTask(config, told), told)


def train(path: Path, report: Tell = print, init: str | None = None) -> float:
    """Train by a configuration file; returns the best equal error rate on dev, in [0, 1].

    Args:
        init: model to start from, instead of the file's own ``init``.
    """
    config = load(path)
    if init is not None:
        config = config.model_copy(update={"init": init})
    return loop(config, report).run()


def main() -> None:
    """``python -m speakerguard.train CONFIG``."""
    parser = argparse.ArgumentParser("python -m speakerguard.train", description="Train a guard.")
    parser.add_argument("config", type=Path, help="such as configs/guard.yaml")
    path = parser.parse_args().config
    with ending("speakerguard.train"):
        train(path, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
