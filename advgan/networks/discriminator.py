"""Real or made: a convolutional judge of mel spectrograms.

It serves twice: against the generator in a GAN, where every patch gets an opinion, and on its
own as a spoof detector, where the mean of the patches is a clip's score. Higher means real.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

CENTRE, SPREAD = -2.5, 1.2  # of log10 mel values of speech, about


class DiscriminatorConfig(BaseModel):
    """Shape of the network.

    Attributes:
        width: channels of the first layer, doubled at each of the first three.
        layers: halvings of both axes; a patch sees about 2 ** (layers + 2) frames.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=24, ge=1, le=512)
    layers: int = Field(default=4, ge=1, le=5)


class Discriminator(nn.Module):
    """Mels (B, bands, T) to opinions of patches, (B, bands / 2^layers, T / 2^layers).

    Clips shorter than a patch are continued with silence.

    >>> Discriminator(DiscriminatorConfig(width=4))(torch.zeros(2, 80, 64)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiscriminatorConfig()
        widths = [self.config.width * 2 ** min(i, 3) for i in range(self.config.layers)]
        layers: list[nn.Module] = []
        for inputs, outputs in zip([1, *widths], widths, strict=False):
            conv = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)
            layers += [conv, nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        x = ((mel - CENTRE) / SPREAD)[:, None]
        opinions: Tensor = self.last(self.layers(x))[:, 0]
        return opinions

    def score(self, mel: Tensor) -> Tensor:
        """One opinion a clip, (B,): the mean over its patches."""
        return self(mel).flatten(1).mean(dim=1)


def judge_loss(real: Tensor, spoof: Tensor) -> Tensor:
    """What the discriminator minimises: hinge on both (Lim and Ye 2017, arXiv 1705.02894)."""
    return nn.functional.relu(1 - real).mean() + nn.functional.relu(1 + spoof).mean()


def deceive_loss(spoof: Tensor) -> Tensor:
    """What the generator minimises: to be taken for real."""
    return -spoof.mean()


def detect_loss(scores: Tensor, real: Tensor) -> Tensor:
    """Cross-entropy of clip scores (B,) as log-odds of being real, both classes weighing alike.

    Args:
        real: bool (B,).
    """
    losses = nn.functional.binary_cross_entropy_with_logits(
        scores, real.to(scores.dtype), reduction="none"
    )
    classes = [losses[chosen].mean() for chosen in (real, ~real) if chosen.any()]
    return torch.stack(classes).mean()
