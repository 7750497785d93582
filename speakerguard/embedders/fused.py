"""Several embedders as one: a cosine of the whole is the weighted mean of the members' cosines.

Each member's embedding is scaled by the square root of its weight and stands after the one before.
So profiles, stores, strangers, thresholds and searches need not know. What is fused is said by a
short file: ``members.json`` in the model's folder, or any ``.yaml`` given as ``--model``::

    members:
      campplus: 1.0
      guard-int8: 0.3
      ./wespeaker.yaml: 0.5     # beside this file

What errs in other places errs less together: Brümmer et al., IEEE Transactions on Audio, Speech and
Language Processing 15 (2007), fuse scores like that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from speakerguard.embedders.contract import Embedder, Embedding
from speakerguard.errors import CheckpointError
from speakerguard.network.checkpoint import MEMBERS_FILE
from speakerguard.processes import Remade
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

MOST = 8  # members

Load = Callable[[str | Path, int | None], Embedder]


class FusedEmbedder(Remade):
    """See :class:`speakerguard.embedders.contract.Embedder`.

    Args:
        path: the file that names the members.
        load: gives a member by its name or path.
        threads: of each member.

    Attributes:
        members: the embedders, in order of their names.
        shares: their weights, which add up to 1.

    Raises:
        CheckpointError: the file cannot be used, or a member cannot be loaded.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, path: Path, load: Load, threads: int | None = None) -> None:
        shipped = path.name == MEMBERS_FILE
        self.folder = path.parent if shipped else path.with_suffix("")
        self.name = self.folder.name
        weights = weights_of(path)
        total = sum(weights.values())
        self.shares = [weights[name] / total for name in sorted(weights)]
        wanted = [_place(name, path.parent) for name in sorted(weights)]
        with ThreadPoolExecutor(len(wanted)) as beside:
            self.members = list(beside.map(lambda name: load(name, threads), wanted))
        self.dimension = sum(member.dimension for member in self.members)
        self.min_samples = max(member.min_samples for member in self.members)
        parts = [
            [member.fingerprint, round(share, 9)]
            for member, share in zip(self.members, self.shares, strict=True)
        ]
        self.fingerprint = f"fused-{sha256(json.dumps(parts).encode()).hexdigest()[:16]}"

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`speakerguard.embedders.contract.Embedder.embed`."""
        of_members = [member.embed(waveforms) for member in self.members]
        return [
            np.concatenate(
                [
                    np.float32(math.sqrt(share)) * embedding
                    for share, embedding in zip(self.shares, parts, strict=True)
                ]
            )
            for parts in zip(*of_members, strict=True)
        ]


def is_fused(path: Path) -> bool:
    """Whether a description names members; what cannot be read says so where it is used."""
    from speakerguard.settings import read_yaml

    return path.is_file() and "members" in read_yaml(path)


def _place(name: str, folder: Path) -> str | Path:
    """A member's name, or its file or folder relative to the one that names it."""
    return folder / name if "/" in name or name.endswith((".yaml", ".yml")) else name


def weights_of(path: Path) -> dict[str, float]:
    """The members' weights by their names.

    Raises:
        CheckpointError: the file cannot be read, or names no members with weights.
    """
    content: Mapping[str, Any]
    if path.name == MEMBERS_FILE:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error}). Copy it again.") from None
    else:
        from speakerguard.settings import read_yaml

        content = read_yaml(path)
    members = content.get("members") if isinstance(content, Mapping) else None
    if not isinstance(members, Mapping) or not 2 <= len(members) <= MOST:
        raise CheckpointError(f"{path}: `members` must name 2 to {MOST} models with their weights.")
    for name, weight in members.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not (isinstance(name, str) and number and 0 < weight < math.inf):
            raise CheckpointError(f"{path}: {name!r} has the weight {weight!r}; give one above 0.")
    return {name: float(weight) for name, weight in members.items()}
