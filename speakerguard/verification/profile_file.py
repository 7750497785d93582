"""Profiles in a file of their own, to be carried to another machine: safetensors.

Each profile is a tensor of its embeddings, float32 (utterances, dimension); what else there is of
it, the fingerprint of its model too, is JSON in the file's metadata, with a SHA-256 over all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from speakerguard.errors import UsageError
from speakerguard.files import whole_file
from speakerguard.network.checkpoint import as_os_error, read_tensors
from speakerguard.verification.profile import Profile
from speakerguard.verification.store_reader import unpacked

FORMAT = "speakerguard-profiles-1"
MAX_BYTES = 1 << 30
MAX_PROFILES = 100_000
MAX_VALUES = 1 << 22  # of one profile; what the store holds in a row
_AGAIN = "Export it again with `speakerguard profiles export`."
_TEXTS = ("name", "fingerprint", "net_seconds", "sources", "created")


def write_profiles(path: Path, profiles: Sequence[Profile]) -> None:
    """Write profiles to ``path``, which appears whole or not at all, for its owner alone.

    Raises:
        UsageError: it does not end in .safetensors, or cannot be written.
    """
    from safetensors.numpy import save_file

    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: the output must end in .safetensors.")
    tensors = {str(place): profile.embeddings for place, profile in enumerate(profiles)}
    about = json.dumps(
        [
            {
                "name": profile.name,
                "fingerprint": profile.fingerprint,
                "net_seconds": json.dumps(profile.net_seconds),
                "sources": json.dumps(profile.sources),
                "created": profile.created.isoformat(),
            }
            for profile in profiles
        ]
    )
    whole = {"format": FORMAT, "profiles": about, "sha256": _digest(about, tensors)}
    with whole_file(path) as part, as_os_error():
        save_file(tensors, part, metadata=whole)
    path.chmod(0o600)  # voices are as private as passwords


def read_profiles(path: Path) -> list[Profile]:
    """The profiles of a file that :func:`write_profiles` wrote, in its order.

    Raises:
        UsageError: no such file; it is another program's, too large, or damaged.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    if not path.is_file():
        raise UsageError(f"{path}: is no file. Name one that `speakerguard profiles export` wrote.")
    if size > MAX_BYTES:
        raise UsageError(f"{path}: {size / 1e6:,.0f} MB are more than profiles need. {_AGAIN}")
    metadata, tensors = read_tensors(path, "np", _AGAIN)
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path}: holds no profiles of this program's (its format is "
            f"{metadata.get('format', 'not stated')!r}, expected {FORMAT!r}). {_AGAIN}"
        )
    about = metadata.get("profiles", "")
    if metadata.get("sha256") != _digest(about, tensors):
        raise UsageError(f"{path}: was changed or damaged since it was written. {_AGAIN}")
    try:
        found = _profiles(json.loads(about), tensors)
    except (ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        raise UsageError(
            f"{path}: holds a profile that cannot be used ({error}). {_AGAIN}"
        ) from None
    if len({profile.name for profile in found}) < len(found):
        raise UsageError(f"{path}: holds two profiles of one name. {_AGAIN}")
    return found


def _profiles(about: Any, tensors: dict[str, Any]) -> list[Profile]:
    if not (isinstance(about, list) and 0 < len(about) == len(tensors) <= MAX_PROFILES):
        raise ValueError(f"{len(tensors)} tensors, and another number of profiles")
    found = []
    for place, row in enumerate(about):
        name, fingerprint, net_seconds, sources, created = (row[text] for text in _TEXTS)
        array = tensors[str(place)]
        if array.dtype != np.float32 or array.ndim != 2 or array.size > MAX_VALUES:
            raise ValueError(f"“{name}” has embeddings {array.dtype} of shape {array.shape}")
        utterances, dimension = array.shape
        found.append(
            unpacked(
                name,
                fingerprint,
                utterances,
                dimension,
                array.astype("<f4").tobytes(),
                net_seconds,
                sources,
                created,
            )
        )
    return found


def _digest(about: str, tensors: dict[str, Any]) -> str:
    """SHA-256, in hex, over what a file says of its profiles and their embeddings."""
    digest = sha256(about.encode("utf-8", "surrogatepass"))
    for place in range(len(tensors)):
        if (array := tensors.get(str(place))) is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
