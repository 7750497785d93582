"""What moves the weights: Adam for all, or Muon for the kernels and Adam for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Config(Protocol):
    """What of a run's configuration matters here."""

    @property
    def optimiser(self) -> str: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


class KernelMuon(torch.optim.Muon):
    """Muon (Jordan et al. 2024) for kernels of any shape.

    It knows matrices alone, so each kernel (outputs, inputs, ...) also comes as the matrix
    (outputs, the rest) that shares its memory. Updates are as large as AdamW's, so that one
    learning rate suits both.
    """

    def __init__(self, kernels: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        self.kernels = list(kernels)
        matrices = [_as_matrix(kernel, kernel.detach()) for kernel in self.kernels]
        super().__init__(matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the kernels."""
        for kernel in self.kernels:
            kernel.grad = None

    def step(self, closure: Any = None) -> Any:
        """Move the kernels by their gradients."""
        for kernel, matrix in zip(self.kernels, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel, kernel.grad)
        return super().step(closure)  # type: ignore[no-untyped-call]


def optimisers(
    network: nn.Module,
    config: Config,
    adam: type[torch.optim.Adam] = torch.optim.AdamW,
    more: Iterable[Tensor] = (),
    **settings: Any,
) -> dict[str, torch.optim.Optimizer]:
    """What ``config`` asks for: Adam for all, or Muon for the kernels and Adam for the rest.

    Args:
        config: its ``optimiser``, ``learning_rate`` and ``weight_decay``.
        adam: which one; ``settings`` are further ones of its own.
        more: weights beside the network's, for Adam.
    """
    rate, decay = config.learning_rate, config.weight_decay
    kernels, rest = parted(network.parameters())
    if config.optimiser != "muon":
        kernels, rest = [], list(network.parameters())
    parts: dict[str, torch.optim.Optimizer] = {
        "network": adam([*rest, *more], lr=rate, weight_decay=decay, **settings)
    }
    if kernels:
        parts["kernels"] = KernelMuon(kernels, rate, decay)
    return parts


def parted(parameters: Iterable[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Kernels that lead from features to features, which suit Muon, and all other weights."""
    kernels: list[Tensor] = []
    rest: list[Tensor] = []
    for weight in parameters:
        (kernels if weight.ndim > 1 and weight.shape[1] > 1 else rest).append(weight)
    return kernels, rest


def _as_matrix(kernel: Tensor, values: Tensor) -> Tensor:
    """``values`` of a kernel's shape, as (outputs, the rest) in the order of its memory."""
    if kernel.ndim == 4 and not kernel.is_contiguous():  # channels last
        values = values.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return values.flatten(1)
