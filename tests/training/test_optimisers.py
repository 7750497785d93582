"""Muon on kernels: the matrices share their memory, and one step is as large as AdamW's."""

import pytest
import torch
from torch import nn

from speakerguard.training.optimisers import KernelMuon, parted


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_moves_as_its_matrix_would(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    kernel, gradient = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    matrix = kernel.clone().flatten(1)
    matrix.grad = gradient.flatten(1)
    torch.optim.Muon([matrix], 0.01, 0.1, adjust_lr_fn="match_rms_adamw").step()
    weight = nn.Parameter(kernel.clone().to(memory_format=layout))
    optimiser = KernelMuon([weight], 0.01, 0.1)
    weight.grad = gradient.clone()
    optimiser.step()
    torch.testing.assert_close(weight.detach().flatten(1), matrix, atol=3e-4, rtol=0)
    assert 0.001 < (weight.detach() - kernel).square().mean().sqrt() < 0.02
    optimiser.zero_grad()
    assert weight.grad is None


def test_kernels_lead_from_features_to_features() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    kernels, rest = parted(network.parameters())
    assert [tuple(kernel.shape) for kernel in kernels] == [(8, 4, 3, 3)]
    assert len(rest) == 5
