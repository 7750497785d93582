"""Weights of the original AGAIN-VC (``.pth``) in this package's generator.

The file is read without running code from it. Every tensor must find its place; nothing is
skipped, and a file that does not fit is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advgan.networks.generator import Generator, GeneratorConfig
from speakerguard.errors import CheckpointError

# Name in the original, and here. The third layer of a block of ours is its activation in both.
_NAMES = (
    (r"encoder\.conv1d_first\.conv\.(.+)", r"encoder.first.\1"),
    (r"encoder\.conv1d_blocks\.(\d+)\.seq\.(\d)\.(?:conv\.)?(.+)", r"encoder.blocks.\1.\2.\3"),
    (r"encoder\.out_layer\.conv\.(.+)", r"encoder.last.\1"),
    (r"decoder\.in_layer\.conv\.(.+)", r"decoder.first.\1"),
    (r"decoder\.conv_blocks\.(\d+)\.dec_block\.(\d)\.(?:conv\.)?(.+)", r"decoder.blocks.\1.\2.\3"),
    (r"decoder\.conv_blocks\.(\d+)\.gen_block\.(\d)\.(?:conv\.)?(.+)", r"decoder.refine.\1.\2.\3"),
    (r"decoder\.rnn\.(.+)", r"decoder.gru.\1"),
    (r"decoder\.out_layer\.(.+)", r"decoder.last.\1"),
)


def load_pth(path: Path) -> Generator:
    """A generator with the weights of an original checkpoint, its GRU over the batch as there.

    Raises:
        CheckpointError: missing, not a PyTorch file, or not an AGAIN-VC model.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None
    except Exception:  # torch's own words may advise to run what the file holds
        raise CheckpointError(
            f"{path}: damaged, or not a PyTorch file that holds weights alone. What else it holds "
            "may be a program and is not run; give the original's own file."
        ) from None
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{path}: holds no model weights. Give an AGAIN-VC checkpoint.")
    renamed = {_rename(path, str(name)): tensor.float() for name, tensor in state.items()}
    generator = Generator(_config(path, renamed))
    try:
        generator.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: does not fit an AGAIN-VC generator: {reason}") from None
    return generator.eval()


def _rename(path: Path, name: str) -> str:
    for pattern, ours in _NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    raise CheckpointError(f"{path}: tensor {name!r} has no place in an AGAIN-VC generator.")


def _config(path: Path, state: Mapping[str, Tensor]) -> GeneratorConfig:
    try:
        width, bands, _ = state["encoder.first.weight"].shape
        content = len(state["encoder.last.weight"])
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: holds no AGAIN-VC encoder.") from None
    blocks = len({name.split(".")[2] for name in state if name.startswith("encoder.blocks.")})
    if not blocks:
        raise CheckpointError(f"{path}: its encoder has no blocks, so it is not AGAIN-VC's.")
    return GeneratorConfig(bands=bands, width=width, content=content, blocks=blocks, legacy=True)
