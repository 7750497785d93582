"""Integer arithmetic for the network: static post-training quantisation, and what it costs.

Convolutions, additions and clips become 8-bit, with ranges learned from speech that was trained on
(Jacob et al. 2018, arXiv 1712.05877); the front end, pooling and the last layer stay in floating
point. The result is a model of its own, with its own thresholds and a fingerprint that depends on
its graph, weights and ranges, because its embeddings differ. It is never made without its error
rates beside those of the original.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speakerguard import seal
from speakerguard.embedders.load import ONNX_FILE
from speakerguard.errors import AudioError, UsageError
from speakerguard.evaluation.evaluate import Result, evaluate, score_trials
from speakerguard.evaluation.trials import Trial, check_files
from speakerguard.export.to_onnx import write_onnx
from speakerguard.files import replace_file, whole_file
from speakerguard.network import checkpoint
from speakerguard.sound.audio import AUDIO_SUFFIXES, SAMPLE_RATE, Waveform
from speakerguard.sound.corpus import spread
from speakerguard.sound.speech import load_speech
from speakerguard.verification.verifier import Verifier

KINDS = ("Conv", "Add", "Clip")
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
        _quantise(whole, made / ONNX_FILE, clips, fingerprint)
        quantised = Verifier(made, score_norm=False)  # a new model has no strangers yet
        losses = _losses(Verifier(folder, score_norm=False), quantised, trials, root)
        with whole_file(out / ONNX_FILE) as part:
            shutil.copyfile(made / ONNX_FILE, part)
    rows = [loss.__dict__ for loss in losses]
    about = {"model": quantised.fingerprint, "of": fingerprint, "eer": rows}
    replace_file(out / LOSS_FILE, json.dumps(about, indent=2) + "\n")
    return losses


def int8_fingerprint(original: str, graph: Any) -> str:
    """That of a quantised ONNX model: its original's, and a hash of its graph, weights in it."""
    return f"{original}-int8-{hashlib.sha256(graph.SerializeToString()).hexdigest()[:8]}"


def _quantise(whole: Path, out: Path, clips: list[Waveform], original: str) -> None:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.clips = iter(clips)

        def get_next(self) -> dict[str, Any] | None:
            clip = next(self.clips, None)
            return None if clip is None else {"waveform": clip[None]}

    folded = whole.with_name("folded.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)  # normalisation folded into convolutions
    onnxruntime.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(str(folded)).graph.node
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Pad")  # of the trunk
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    quantize_static(
        str(folded),
        str(part),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # or processors without VNNI overflow 16 bits and give other embeddings
        op_types_to_quantize=list(KINDS),
        nodes_to_exclude=[node.name for node in nodes[:first]],  # the front end
        extra_options={"CalibMovingAverage": True},
    )
    made = onnx.load(str(part))
    about = {entry.key: entry.value for entry in onnx.load(str(whole)).metadata_props}
    del about[seal.KEY]
    about["fingerprint"] = int8_fingerprint(original, made.graph)
    del made.metadata_props[:]
    onnx.helper.set_model_props(made, about)
    onnx.save(made, str(part))
    seal.seal(part)
    part.replace(out)


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
