"""What moves the weights: AdamW for all, or Muon for the convolutions and AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speakerguard.config import TrainConfig


class Optimisers:
    """The optimisers of a run, which step together.

    Muon (Jordan et al. 2024) takes the weights that lead from features to features. It knows
    matrices alone, so each kernel also comes as the matrix that shares its memory.
    """

    def __init__(self, encoder: nn.Module, softmax: nn.Module, config: TrainConfig) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        rest = [*encoder.parameters(), *softmax.parameters()]
        self.parts: list[torch.optim.Optimizer] = []
        self.matrices: list[tuple[Tensor, Tensor]] = []
        if config.optimiser == "muon":
            hidden = [w for w in encoder.parameters() if w.ndim > 1 and w.shape[1] > 1]
            self.matrices = [(weight, _as_matrix(weight.detach())) for weight in hidden]
            taken = {id(weight) for weight in hidden}
            rest = [weight for weight in rest if id(weight) not in taken]
            muon = torch.optim.Muon(
                [matrix for _, matrix in self.matrices],
                lr=rate,
                weight_decay=decay,
                adjust_lr_fn="match_rms_adamw",  # one rate and one decay suit both
            )
            self.parts.append(muon)
        self.parts.append(torch.optim.AdamW(rest, lr=rate, weight_decay=decay))

    def step(self, rate: float) -> None:
        """Move the weights by their gradients, at learning rate ``rate``."""
        for weight, matrix in self.matrices:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
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


def _as_matrix(kernel: Tensor) -> Tensor:
    """A view of ``kernel`` (outputs, inputs, ...), as (outputs, the rest)."""
    if kernel.ndim == 4:  # channels last in memory
        kernel = kernel.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return kernel.flatten(1)
