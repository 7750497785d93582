"""What moves the weights: AdamW for all, or Muon for the kernels and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speakerguard.config import TrainConfig


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


class Optimisers:
    """The optimisers of a guard's training, which step together."""

    def __init__(self, encoder: nn.Module, softmax: nn.Module, config: TrainConfig) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        self.parts: list[torch.optim.Optimizer] = []
        rest: Iterable[Tensor] = encoder.parameters()
        if config.optimiser == "muon":
            kernels, rest = parted(rest)
            self.parts.append(KernelMuon(kernels, rate, decay))
        adam = torch.optim.AdamW([*rest, *softmax.parameters()], lr=rate, weight_decay=decay)
        self.parts.append(adam)

    def step(self, rate: float) -> None:
        """Move the weights by their gradients, at learning rate ``rate``."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name: ``optimiser.<part>.<weight>.<slot>``."""
        return {
            f"optimiser.{number}.{index}.{name}": torch.as_tensor(tensor)
            for number, part in enumerate(self.parts)
            for index, slots in part.state_dict()["state"].items()
            for name, tensor in slots.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave; where no part is named, it is the first."""
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.parts]
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, *number, index, slot = name.split(".")
                states[int(number[0]) if number else 0].setdefault(int(index), {})[slot] = tensor
        for part, state in zip(self.parts, states, strict=True):
            groups = part.state_dict()["param_groups"]
            part.load_state_dict({"state": state, "param_groups": groups})


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
