"""AGAIN-VC: one voice's words in another voice's sound (Chen et al. 2021, arXiv 2011.00316).

One encoder hears both source and target. Instance normalisation takes each layer's mean and
deviation away; of the target, those are kept, and are the voice. What is left is squeezed
through four channels and a flat sigmoid (activation guidance), too narrow to carry a voice: the
words. The decoder puts the target's statistics back, layer by layer, and two GRU layers smooth
the result over time.

The published code fed that GRU with time and batch swapped, so that clips of a batch leaked into
each other and a single clip saw no time at all. Ours runs over time. ``legacy`` swaps them as in
the original, for its public weights; see :mod:`advgan.legacy`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

EPSILON = 1e-5  # added to variances


class GeneratorConfig(BaseModel):
    """Shape of the network. The defaults are the published ones.

    Attributes:
        bands: mel bands in and out.
        width: channels; 256 make 7.9 M parameters, 128 make 2.0 M.
        content: channels that carry the words.
        blocks: of encoder and decoder alike.
        guidance: slope of the sigmoid.
        embedding: values of a verifier's embedding of the target, which the decoder is told as
            well; 0, as published, leaves it out.
        legacy: run the GRU over the batch, as the original does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bands: int = Field(default=80, ge=1, le=512)
    width: int = Field(default=256, ge=1, le=2048)
    content: int = Field(default=4, ge=1, le=2048)
    blocks: int = Field(default=6, ge=1, le=32)
    guidance: float = Field(default=0.1, gt=0, le=100)
    embedding: int = Field(default=0, ge=0, le=4096)
    legacy: bool = False


class Statistics(NamedTuple):
    """Mean and deviation over time of each channel, both (B, C, 1)."""

    mean: Tensor
    deviation: Tensor


class Encoding(NamedTuple):
    """What the encoder hears: content (B, 4, T), and the voice, a pair of statistics a layer."""

    content: Tensor
    voice: list[Statistics]


class Generator(nn.Module):
    """Mel spectrograms of a source and a target to one of the source's words, target's voice.

    >>> generator = Generator(GeneratorConfig(width=8)).eval()
    >>> generator(torch.zeros(1, 80, 100), torch.zeros(1, 80, 60)).shape
    torch.Size([1, 80, 100])
    """

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config or GeneratorConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def encode(self, mel: Tensor) -> Encoding:
        """(B, bands, T) to its content, guided, and its voice."""
        content, voice = self.encoder(mel)
        return Encoding(torch.sigmoid(self.config.guidance * content), voice)

    def forward(self, source: Tensor, target: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Convert.

        Args:
            source: (B, bands, T), the words.
            target: (B, bands, any length), the voice.
            embedding: (B, embedding), how a verifier hears the target, where that is told.

        Returns:
            (B, bands, T).
        """
        return self.convert(source, self.voice(target, embedding))

    def voice(self, target: Tensor, embedding: Tensor | None = None) -> Encoding:
        """What the decoder is given of a target; arguments as for :meth:`forward`."""
        encoding = self.encode(_eights(target) if self.config.legacy else target)
        return encoding if embedding is None else self.decoder.told_of(encoding, embedding)

    def convert(self, source: Tensor, voice: Encoding) -> Tensor:
        """Words of ``source`` (B, bands, T) in a voice that :meth:`voice` found: (B, bands, T)."""
        frames = source.shape[2]
        content = self.encode(_eights(source) if self.config.legacy else source).content
        converted: Tensor = self.decoder(content, voice)
        return converted[:, :, :frames]


class Encoder(nn.Module):
    """(B, bands, T) to content (B, content, T) and statistics of every layer."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.first = _conv(config.bands, config.width, 1)
        self.blocks = nn.ModuleList(_block(config.width) for _ in range(config.blocks))
        self.last = _conv(config.width, config.content, 1)

    def forward(self, mel: Tensor) -> tuple[Tensor, list[Statistics]]:
        y, voice = self.first(mel), []
        for block in self.blocks:
            y = y + block(y)
            y, statistics = normalise(y)
            voice.append(statistics)
        return self.last(y), voice


class Decoder(nn.Module):
    """Content of the source (B, content, T) and encoding of the target to (B, bands, T)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.width
        self.first = _conv(config.content, width, 3)
        self.blocks = nn.ModuleList(_block(width) for _ in range(config.blocks))
        self.refine = nn.ModuleList(_block(width) for _ in range(config.blocks))
        if config.embedding:  # nothing is told at first, so that plain weights go on as they were
            self.told = nn.Linear(config.embedding, 2 * width * config.blocks)
            nn.init.zeros_(self.told.weight)
            nn.init.zeros_(self.told.bias)
        self.gru = nn.GRU(width, width, 2, batch_first=not config.legacy)
        self.last = nn.Linear(width, config.bands)

    def told_of(self, target: Encoding, embedding: Tensor) -> Encoding:
        """The voice moved to where a verifier's embedding of it (B, embedding) points."""
        told = self.told(embedding).float().view(len(embedding), 2, len(target.voice), -1, 1)
        moved = [
            Statistics(voice.mean + shift, voice.deviation * (1 + scale))
            for voice, shift, scale in zip(
                target.voice, told[:, 0].unbind(1), told[:, 1].unbind(1), strict=True
            )
        ]
        return target._replace(voice=moved)

    def forward(self, content: Tensor, target: Encoding) -> Tensor:
        voices = target.voice
        y = apply_voice(normalise(content)[0], normalise(target.content)[1])
        y = nn.functional.leaky_relu(self.first(y))
        for block, refine, voice in zip(self.blocks, self.refine, voices, strict=True):
            change = block(y)
            y = y + change + refine(change)
            y = apply_voice(normalise(y)[0], voice)
        # the target's mean leads, so that the GRU begins in its voice
        sequence = torch.cat([voices[-1].mean, y], dim=2).transpose(1, 2)
        sequence, _ = self.gru(sequence)
        mel: Tensor = self.last(sequence[:, 1:]).transpose(1, 2)
        return mel


def normalise(x: Tensor) -> tuple[Tensor, Statistics]:
    """Each channel (B, C, T) to mean 0 and deviation 1 over time, and what it was before."""
    wide = x.float()
    mean = wide.mean(dim=2, keepdim=True)
    deviation = (wide.var(dim=2, keepdim=True) + EPSILON).sqrt()  # unbiased, as published
    return (wide - mean) / deviation, Statistics(mean, deviation)


def apply_voice(x: Tensor, voice: Statistics) -> Tensor:
    """Give normalised channels (B, C, T) another mean and deviation."""
    return x * voice.deviation + voice.mean


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(width, width, 3), nn.BatchNorm1d(width), nn.LeakyReLU(), _conv(width, width, 3)
    )


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv1d:
    conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    return conv


def _eights(mel: Tensor) -> Tensor:
    """Mirror the end until the length divides by 8, as the original does."""
    missing = -mel.shape[2] % 8
    return nn.functional.pad(mel, (0, missing), mode="reflect") if missing else mel
