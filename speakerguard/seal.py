"""Seals: by what a file says of itself, damage to any byte of it is noticed before an answer.

``model.safetensors`` states the fingerprint of its weights. ``model.onnx`` ends in one more entry
of its metadata, the SHA-256 of all before it; to other programs it is metadata like any other.
Cohorts and calibrations state the digest of their content. What writes these files seals them;
:mod:`speakerguard.reseal` seals those that earlier versions wrote.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from speakerguard.errors import CheckpointError
from speakerguard.files import whole_file

KEY = "sha256"
_HEAD = b"\x72\x4a\x0a\x06sha256\x12\x40"  # ModelProto.metadata_props, its key, length of value
_LENGTH = len(_HEAD) + 64
DAMAGED = (
    "is damaged: its content is not what its digest says. Copy it again. Without another copy:"
)
UNSEALED = (
    "states no digest by which damage would be noticed: an earlier version wrote it. If it is to "
    "be trusted as it is: `python -m speakerguard.reseal` with its folder. Else:"
)


def seal(path: Path) -> bool:
    """Add the seal to an ONNX file; False where it has one."""
    content = path.read_bytes()
    if content[-_LENGTH:].startswith(_HEAD):
        return False
    with whole_file(path) as part:
        part.write_bytes(content + _seal(content))
    return True


def check(path: Path, advice: str) -> None:
    """Compare an ONNX file with its seal.

    Raises:
        CheckpointError: it has none or another one; the message ends in ``advice``.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path}: cannot be read ({reason}). {advice}") from None
    body, stated = content[:-_LENGTH], bytes(content[-_LENGTH:])
    if not stated.startswith(_HEAD):
        raise CheckpointError(f"{path}: is damaged, or {UNSEALED} {advice}")
    if stated != _seal(body):
        raise CheckpointError(f"{path}: {DAMAGED} {advice}")


def _seal(content: bytes | memoryview) -> bytes:
    return _HEAD + sha256(content).hexdigest().encode()
