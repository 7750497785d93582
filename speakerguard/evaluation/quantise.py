"""An 8-bit guard, and what that costs: never one without its error rates beside the original's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerguard.errors import AudioError, UsageError
from speakerguard.evaluation.evaluate import Result, evaluate, score_trials
from speakerguard.evaluation.trials import Trial, check_files
from speakerguard.export.int8 import write_int8
from speakerguard.export.to_onnx import write_onnx
from speakerguard.files import replace_file, whole_file
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import ONNX_FILE
from speakerguard.sound.audio import AUDIO_SUFFIXES, SAMPLE_RATE, Waveform
from speakerguard.sound.corpus import spread
from speakerguard.sound.speech import load_speech
from speakerguard.verification.verifier import Verifier

CLIPS = 100  # of speech for the ranges, from as many places in the folder
SECONDS = 4.0  # of each
CONDITIONS: dict[str, float | None] = {"full": None, "2 s": 2.0}
LOSS_FILE = "quantisation.json"


@dataclass(frozen=True)
class Loss:
    """Error rates, in [0, 1], of one condition: pooled over trials, and mean over sources."""

    condition: str
    pooled: float
    pooled_int8: float
    mean: float
    mean_int8: float


def quantise(
    model: str | os.PathLike[str], out: Path, speech: Path, trials: Sequence[Trial], root: Path
) -> list[Loss]:
    """Write an 8-bit model to the folder ``out``, and what it loses against ``model``.

    Args:
        speech: folder of recordings for the ranges; not the ones it is judged on.
        trials, root: trial list and the folder of its files, for the error rates.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the package onnx is missing, there is no usable speech, or ``out`` holds the
            weights of a model.
        TrialError, AudioError: a recording of the trials is missing or unusable; then nothing is
            written.
    """
    if (out / checkpoint.MODEL_FILE).exists():
        raise UsageError(f"{out}: holds the weights of a model already. Name another folder.")
    check_files(trials, root)
    folder = checkpoint.resolve(model)
    encoder, fingerprint = checkpoint.load(folder / checkpoint.MODEL_FILE)
    clips = list(_clips(speech))
    if not clips:
        raise UsageError(f"{speech}: no speech found for the ranges. Name a folder of recordings.")
    with tempfile.TemporaryDirectory() as scratch:
        whole, made = Path(scratch) / "whole.onnx", Path(scratch) / "made"
        weights = folder / checkpoint.MODEL_FILE
        write_onnx(encoder, fingerprint, whole, weights, beside=False)
        made.mkdir()
        write_int8(whole, made / ONNX_FILE, clips, fingerprint)
        quantised = Verifier(made, score_norm=False)  # a new model has no strangers yet
        losses = _losses(Verifier(folder, score_norm=False), quantised, trials, root)
        with whole_file(out / ONNX_FILE) as part:
            shutil.copyfile(made / ONNX_FILE, part)
    rows = [loss.__dict__ for loss in losses]
    about = {"model": quantised.fingerprint, "of": fingerprint, "eer": rows}
    replace_file(out / LOSS_FILE, json.dumps(about, indent=2) + "\n")
    return losses


def _clips(folder: Path) -> Iterator[Waveform]:
    """Some speech of evenly spread recordings, each float32 (n,)."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    for path in spread(files, CLIPS):
        try:
            yield load_speech(path).samples[: int(SECONDS * SAMPLE_RATE)]
        except AudioError:
            continue


def _losses(
    original: Verifier, quantised: Verifier, trials: Sequence[Trial], root: Path
) -> list[Loss]:
    losses = []
    for condition, seconds in CONDITIONS.items():
        found: list[list[Result]] = [
            evaluate(score_trials(verifier, trials, root, seconds), replicates=0)
            for verifier in (original, quantised)
        ]
        pooled, mean = [rows[-1].eer for rows in found], [_mean(rows) for rows in found]
        losses.append(Loss(condition, *pooled, *mean))
    return losses


def _mean(results: Sequence[Result]) -> float:
    """Over sources; the pooled rate where there is one source."""
    sources = [row.eer for row in results if row.name not in ("mean", "pooled")]
    return float(np.mean(sources)) if sources else results[-1].eer
