"""Feed-forward AdvGAN: a network that adds a small sound, and nothing else, to a recording.

As in Xiao et al. 2018 (arXiv 1801.02610) one pass makes the perturbation, bounded by ``epsilon``
in every sample. It is told whom to imitate by the verifier's own embedding of the target.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

EPSILON = 0.002  # of full scale, 65 steps of 16 bits
GAIN = 8.0  # between values of the spectrum and shares of the bound: a fresh network is audible


class PerturberConfig(BaseModel):
    """Shape of the network.

    Attributes:
        width: channels.
        blocks: dilated residual blocks, the dilation doubling from 1.
        window: samples in a frame of the spectra at both ends; the hop is a quarter.
        embedding: values in the target's embedding.
        epsilon: largest change of a sample, full scale 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=256, ge=1, le=2048)
    blocks: int = Field(default=5, ge=1, le=12)
    window: int = Field(default=512, ge=4, le=4096, multiple_of=4)
    embedding: int = Field(default=192, ge=1, le=4096)
    epsilon: float = Field(default=EPSILON, gt=0, le=0.1)


class Perturber(nn.Module):
    """Waveforms (B, n) at 16 kHz and embeddings (B, D) to perturbed waveforms (B, n) in [-1, 1].

    It reads the source's log spectrum and writes what to add to each value of the spectrum, in
    the source's own phase, since that is what a verifier's filterbank hears.

    >>> network = Perturber(PerturberConfig(width=8, blocks=2))
    >>> network(torch.zeros(2, 1_000), torch.zeros(2, 192)).shape
    torch.Size([2, 1000])
    """

    hann: Tensor

    def __init__(self, config: PerturberConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PerturberConfig()
        bins = c.window // 2 + 1
        self.register_buffer("hann", torch.hann_window(c.window), persistent=False)
        self.analyse = nn.Conv1d(bins, c.width, 3, padding=1)
        self.voice = nn.Linear(c.embedding, 2 * c.width * c.blocks)
        self.blocks = nn.ModuleList(
            nn.Conv1d(c.width, c.width, 3, dilation=2**i, padding=2**i) for i in range(c.blocks)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, c.width) for _ in range(c.blocks))
        self.synthesise = nn.Conv1d(c.width, bins, 1)
        with torch.no_grad():  # a tanh that starts at its bound would not learn
            self.synthesise.weight *= 0.1
            self.synthesise.bias.zero_()  # type: ignore[union-attr]

    def delta(self, waveform: Tensor, embedding: Tensor) -> Tensor:
        """The perturbation (B, n), no sample of it beyond ``epsilon``."""
        window, hop = self.config.window, self.config.window // 4
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.float(), window, hop, window=self.hann, pad_mode="constant",
                return_complex=True,
            )  # fmt: skip
            size = spectrum.abs()
            loud = torch.log(size + 1e-3)
            loud = (loud - loud.mean(dim=(1, 2), keepdim=True)) / 2
        y = self.analyse(loud)
        voices = self.voice(10 * embedding).view(len(y), len(self.blocks), 2, -1, 1)
        for index, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            scale, shift = voices[:, index, 0], voices[:, index, 1]
            y = y + nn.functional.gelu(norm(block(y)) * (1 + scale) + shift)
        change = self.synthesise(y).float()
        with torch.autocast(waveform.device.type, enabled=False):
            added = change * spectrum / (size + 1e-6)
            sound = torch.istft(added, window, hop, window=self.hann, length=waveform.shape[1])
        return self.config.epsilon * torch.tanh(GAIN * sound)

    def forward(self, waveform: Tensor, embedding: Tensor) -> Tensor:
        """See the class."""
        return (waveform + self.delta(waveform, embedding)).clamp(-1.0, 1.0)
