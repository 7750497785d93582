"""Networks in the formats of ONNX Runtime and OpenVINO, loaded to run on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from speakerguard.errors import CheckpointError, UsageError

MAX_THREADS = 4  # that a runtime takes unasked; one clip gives no work to more
EXPORT_AGAIN = "Export it again: `speakerguard export --to onnx --model` with the model's name."


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        CheckpointError: the file is missing, or cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _default_threads()
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # no slower here; loads faster and gives memory back
    # Waiting threads sleep: spinning, they take as much processor time as those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        return onnxruntime.InferenceSession(
            str(existing(path)), options, providers=["CPUExecutionProvider"]
        )
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime's own errors have no other base
        raise CheckpointError(
            f"{path}: ONNX Runtime cannot run it ({error}). {EXPORT_AGAIN}"
        ) from None


def openvino_model(path: Path, threads: int | None = None) -> tuple[Any, dict[str, str]]:
    """A compiled OpenVINO model on the CPU, in float32, and the metadata of its file.

    Raises:
        CheckpointError: the file cannot be run.
        UsageError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"OpenVINO cannot be used here ({error}): pip install 'speakerguard[openvino]'."
        ) from None
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or _default_threads(),
    }
    try:
        core = openvino.Core()
        model = core.read_model(path)
        stated = model.get_rt_info()["framework"] if model.has_rt_info("framework") else {}
        info = {name: str(model.get_rt_info(["framework", name]).value) for name in stated}
        return core.compile_model(model, "CPU", settings), info
    except RuntimeError as error:
        raise CheckpointError(f"{path}: OpenVINO cannot run it ({error}). {EXPORT_AGAIN}") from None


def existing(path: Path) -> Path:
    """The path. Raises CheckpointError where it is no file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. {EXPORT_AGAIN}")
    return path


def _default_threads() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)
