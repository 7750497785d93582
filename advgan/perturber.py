"""Feed-forward AdvGAN: a network that adds a small sound, and nothing else, to a recording.

As in Xiao et al. 2018 (arXiv 1801.02610) one pass makes the perturbation, bounded by ``epsilon``
in every sample. It is told whom to imitate by the verifier's own embedding of the target.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

EPSILON = 0.002  # of full scale, 65 steps of 16 bits


class PerturberConfig(BaseModel):
    """Shape of the network.

    Attributes:
        width: channels.
        blocks: dilated residual blocks, the dilation doubling from 1.
        window: samples a frame of the filterbanks at both ends; the hop is half.
        embedding: values in the target's embedding.
        epsilon: largest change of a sample, full scale 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=128, ge=1)
    blocks: int = Field(default=6, ge=1)
    window: int = Field(default=64, ge=2)
    embedding: int = Field(default=192, ge=1)
    epsilon: float = Field(default=EPSILON, gt=0, le=0.1)


class Perturber(nn.Module):
    """Waveforms (B, n) at 16 kHz and embeddings (B, D) to perturbed waveforms (B, n) in [-1, 1].

    >>> network = Perturber(PerturberConfig(width=8, blocks=2))
    >>> network(torch.zeros(2, 1_000), torch.zeros(2, 192)).shape
    torch.Size([2, 1000])
    """

    def __init__(self, config: PerturberConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PerturberConfig()
        hop = c.window // 2
        self.analyse = nn.Conv1d(1, c.width, c.window, stride=hop, padding=hop)
        self.voice = nn.Linear(c.embedding, 2 * c.width * c.blocks)
        self.blocks = nn.ModuleList(
            nn.Conv1d(c.width, c.width, 3, dilation=2**i, padding=2**i) for i in range(c.blocks)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, c.width) for _ in range(c.blocks))
        self.synthesise = nn.ConvTranspose1d(c.width, 1, c.window, stride=hop, padding=hop)
        with torch.no_grad():  # a tanh that starts at its bound would not learn
            self.synthesise.weight *= 0.05

    def delta(self, waveform: Tensor, embedding: Tensor) -> Tensor:
        """The perturbation (B, n), no sample of it beyond ``epsilon``."""
        level = waveform.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-4)
        y = nn.functional.leaky_relu(self.analyse((waveform / level)[:, None]))
        voices = self.voice(embedding).view(len(y), len(self.blocks), 2, -1, 1)
        for index, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            scale, shift = voices[:, index, 0], voices[:, index, 1]
            y = y + nn.functional.leaky_relu(norm(block(y)) * (1 + scale) + shift)
        sound = self.synthesise(y)[:, 0]
        missing = waveform.shape[1] - sound.shape[1]
        sound = nn.functional.pad(sound, (0, missing))  # negative where there is too much
        return self.config.epsilon * torch.tanh(sound)

    def forward(self, waveform: Tensor, embedding: Tensor) -> Tensor:
        """See the class."""
        return (waveform + self.delta(waveform, embedding)).clamp(-1.0, 1.0)
