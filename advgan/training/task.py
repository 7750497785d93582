"""What every training run of the attacker begins with: a device, weights, and their average."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from advgan.networks import checkpoint
from speakerguard.errors import CheckpointError

Network = TypeVar("Network", bound=nn.Module)


def device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def start(kind: str, network: Network, init: str | None) -> Network:
    """``network`` on the device, with the weights of ``init`` where that is given.

    A generator that is told an embedding may start from one that is not.

    Raises:
        CheckpointError: ``init`` has another shape.
    """
    if init:
        loaded = checkpoint.load(kind, init).network
        wanted: Any = network.config
        plain = wanted.model_copy(update={"embedding": 0} if kind == "generator" else {})
        if loaded.config not in (wanted, plain):
            raise CheckpointError(
                f"{init}: its network is {loaded.config}, the configuration asks for {wanted}."
            )
        network.load_state_dict(loaded.state_dict(), strict=loaded.config == wanted)
    return network.to(device())


def copy_of(network: nn.Module, blank: Network) -> Network:
    """``blank`` with the weights of ``network``, in evaluation mode, to average into."""
    blank.load_state_dict(network.state_dict())
    return blank.to(device()).eval()


def swap_halves(mel: Tensor) -> Tensor:
    """The second half of (B, bands, T) before the first: the same voice saying something else."""
    half = mel.shape[2] // 2
    return torch.cat([mel[:, :, half:], mel[:, :, :half]], dim=2)
