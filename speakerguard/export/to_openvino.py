"""A checkpoint for OpenVINO, by way of ONNX."""

from __future__ import annotations

from pathlib import Path

from speakerguard.errors import UsageError
from speakerguard.export.to_onnx import write_onnx
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder


def write_openvino(encoder: SpeakerEncoder, fingerprint: str, folder: Path, part: Path) -> None:
    """Write the encoder as ``part``, an .xml file, and the .bin file beside it, in float32.

    Raises:
        UsageError: OpenVINO or the package onnx is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"OpenVINO cannot be used here ({error}): pip install 'speakerguard[openvino]'."
        ) from None
    whole = part.with_suffix(".onnx")
    try:
        write_onnx(encoder, fingerprint, whole, folder / checkpoint.MODEL_FILE, beside=False)
        openvino.save_model(openvino.Core().read_model(whole), part, compress_to_fp16=False)
    finally:
        whole.unlink(missing_ok=True)
