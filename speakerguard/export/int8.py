"""Integer arithmetic for the network: static post-training quantisation.

Convolutions, additions and clips become 8-bit, with ranges learned from speech that was trained on
(Jacob et al. 2018, arXiv 1712.05877); the front end, pooling and the last layer stay in floating
point. The result is a model of its own, with its own thresholds and a fingerprint that depends on
its graph, weights and ranges, because its embeddings differ. What it costs in error rates,
:mod:`speakerguard.evaluation.quantise` measures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speakerguard import seal
from speakerguard.sound.audio import Waveform

KINDS = ("Conv", "Add", "Clip")


def int8_fingerprint(original: str, graph: Any) -> str:
    """That of a quantised ONNX model: its original's, and a hash of its graph, weights in it."""
    return f"{original}-int8-{hashlib.sha256(graph.SerializeToString()).hexdigest()[:8]}"


def write_int8(whole: Path, out: Path, clips: Iterable[Waveform], original: str) -> None:
    """Write an 8-bit network.

    Args:
        whole: the network as ONNX, weights in it.
        out: the ONNX file to write, sealed.
        clips: speech for the ranges, each float32 (n,).
        original: fingerprint of the weights.
    """
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
