"""The guard's network: Deep Speaker's ResCNN, a head, and the front end they were trained with.

Deep Speaker: Li et al. 2017, arXiv 1705.02304, section 3. The trunk keeps its output per frame,
so that a head can look along time. :class:`TdnnHead` is the guard's; :class:`MeanHead` is the
paper's; the two heads at the end exist for the ablation that shows why they fail.

Clips of different lengths may share a batch: zero-pad them and give ``lengths``. Every layer then
sees zeros beyond each clip's end, just as it does when the clip comes alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speakerguard.network.config import DENSE, ModelConfig
from speakerguard.network.front_end import FRONT_ENDS
from speakerguard.sound.filterbank import BANDS

CEILING = 20.0  # of the clipped ReLU, arXiv 1705.02304 equation 2
STAGES = (1, 2, 4, 8)  # channels of each stage, times the width
BLOCKS = 3  # residual blocks a stage
LEAST_VARIANCE = 1e-5  # of a channel over time, in TdnnHead
_EPS = 1e-3  # of batch normalisation, as Keras has it, so that its weights carry over


class SpeakerEncoder(nn.Module):
    """Waveform to embedding: front end, trunk and head in one module.

    >>> encoder = SpeakerEncoder(ModelConfig(width=4, tdnn_channels=16)).eval()
    >>> encoder(torch.randn(2, 16_000)).shape
    torch.Size([2, 192])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FRONT_ENDS[config.front_end]()
        self.trunk = ResCNN(config.width, config.activate_branch)
        self.head = HEADS[config.head](self.trunk.channels, config)

    def forward(self, x: Tensor, lengths: Tensor | None = None, features: bool = False) -> Tensor:
        """Embed a batch.

        Args:
            x: waveforms, float32 (B, samples), 16 kHz, in [-1, 1], zero-padded where clips differ;
                or front-end output (B, frames, 64).
            lengths: int64 (B,), samples or frames of each clip; None when all fill the batch.
            features: whether ``x`` is front-end output.

        Returns:
            L2-normalised embeddings, float32 (B, ``config.dimension``).

        Raises:
            UsageError: a clip is shorter than the front end's window.
        """
        if not features:
            x = self.front_end(x, lengths)
            lengths = None if lengths is None else self.front_end.frames(lengths)
        frames, count = self.trunk(x, lengths)
        embedding: Tensor = self.head(frames, count)
        return nn.functional.normalize(embedding.float(), dim=1)


class ResCNN(nn.Module):
    """Deep Speaker's residual CNN: (B, frames, 64) to (B, 32 * width, ceil(frames / 16))."""

    def __init__(self, width: int, activate_branch: bool = False) -> None:
        super().__init__()
        self.channels = width * STAGES[-1] * BANDS // 2 ** len(STAGES)
        stages: list[nn.Module] = []
        inputs = 1
        for factor in STAGES:
            stages.append(Stage(inputs, width * factor, activate_branch))
            inputs = width * factor
        self.stages = nn.ModuleList(stages)

    def forward(
        self, features: Tensor, count: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Frame-level output, and the frames of each clip in it."""
        x = features.unsqueeze(1)  # (B, 1, T, F)
        for stage in self.stages:
            count = None if count is None else (count + 1) // 2
            x = stage(x, count)
        x = x.permute(0, 3, 1, 2)  # (B, F, C, T): bands outermost, as Keras flattens them
        return x.flatten(1, 2), count


class Stage(nn.Module):
    """A 5x5 convolution that halves time and bands, then residual blocks."""

    def __init__(self, inputs: int, channels: int, activate_branch: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 5, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=_EPS)
        self.blocks = nn.ModuleList(ResidualBlock(channels, activate_branch) for _ in range(BLOCKS))

    def forward(self, x: Tensor, count: Tensor | None) -> Tensor:
        # One before and enough behind: TensorFlow's "same" for even sizes, and for any size an
        # alignment that does not depend on how far the batch is padded.
        x = nn.functional.pad(x, (1, 2, 1, 3))
        mask = _mask(count, (x.shape[2] - 3) // 2, x)
        x = _masked(clipped_relu(self.norm(self.conv(x))), mask)
        for block in self.blocks:
            x = block(x, mask)
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; starts as the identity.

    With ``activate_branch`` it does not: a gain of zero before the clipped ReLU would stop every
    gradient, and the branch would never learn.
    """

    def __init__(self, channels: int, activate_branch: bool = False) -> None:
        super().__init__()
        self.activate_branch = activate_branch
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, eps=_EPS)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, eps=_EPS)
        if not activate_branch:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = _masked(clipped_relu(self.norm1(self.conv1(x))), mask)
        y = self.norm2(self.conv2(y))
        if self.activate_branch:
            y = clipped_relu(y)
        return _masked(clipped_relu(x + y), mask)


def clipped_relu(x: Tensor) -> Tensor:
    """min(max(x, 0), 20), arXiv 1705.02304 equation 2."""
    return nn.functional.hardtanh(x, 0.0, CEILING)


class TdnnHead(nn.Module):
    """A time-delay network over frames, then attentive statistics pooling, then an affine layer.

    Three dilated convolutions over *time* (x-vectors, Snyder et al. 2018) see 13 trunk frames,
    about two seconds. Pooling takes weighted mean and deviation of each channel over the whole
    clip (Okabe et al. 2018, arXiv 1803.10963). (B, channels, T) to (B, embedding).
    """

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        wide = config.tdnn_channels
        self.layers = nn.ModuleList(
            TdnnLayer(inputs, outputs, kernel, dilation)
            for inputs, outputs, kernel, dilation in (
                (channels, wide, 3, 1),
                (wide, wide, 3, 2),
                (wide, wide, 3, 3),
                (wide, 2 * wide, 1, 1),
            )
        )
        self.attention = nn.Sequential(
            nn.Conv1d(2 * wide, 128, 1), nn.Tanh(), nn.Conv1d(128, 2 * wide, 1)
        )
        self.norm = nn.BatchNorm1d(4 * wide)
        self.affine = nn.Linear(4 * wide, config.embedding)

    def forward(self, x: Tensor, count: Tensor | None = None) -> Tensor:
        mask = _mask(count, x.shape[2], x)
        return self.pool(self.hear(x, mask), mask)

    def hear(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Frames as they are pooled: (B, channels, T) to (B, 2 * ``tdnn_channels``, T)."""
        for layer in self.layers:
            x = _masked(layer(x), mask)
        return x

    def pool(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Frames of a clip to its embedding: (B, embedding)."""
        weight = self.attention(x).float()
        if mask is not None:
            weight = weight.masked_fill(~mask, -torch.inf)
        weight = weight.softmax(dim=2)
        x = x.float()
        mean = (weight * x).sum(dim=2)
        variance = (weight * x.square()).sum(dim=2) - mean.square()
        deviation = variance.clamp(min=LEAST_VARIANCE).sqrt()  # a constant channel has no slope
        output: Tensor = self.affine(self.norm(torch.cat([mean, deviation], dim=1)))
        return output


class TdnnLayer(nn.Module):
    """Dilated convolution over time, normalisation, ReLU: (B, inputs, T) to (B, outputs, T)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, dilation=dilation, padding=padding, bias=False
        )
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.norm(self.conv(x)))


class MeanHead(nn.Module):
    """The paper's head: mean over time, affine layer. (B, channels, T) to (B, embedding)."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.affine = nn.Linear(channels, config.embedding)

    def forward(self, x: Tensor, count: Tensor | None = None) -> Tensor:
        output: Tensor = self.affine(_mean(x, count))
        return output


class EmbeddingConvHead(nn.Module):
    """Convolutions along the *embedding* axis of the pooled embedding; kept for the ablation.

    Neighbouring values of an embedding have no order, so a kernel that slides along them has
    nothing to find, and time is gone already. (B, channels, T) to (B, embedding).
    """

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.pooled = nn.Linear(channels, 512)
        self.layers = nn.Sequential(
            nn.Conv1d(1, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 32, 3, dilation=2, padding=2),
            nn.ReLU(), nn.Conv1d(32, 32, 3, dilation=3, padding=3), nn.ReLU(),
        )  # fmt: skip
        self.affine = nn.Linear(64, config.embedding)

    def forward(self, x: Tensor, count: Tensor | None = None) -> Tensor:
        pooled = nn.functional.normalize(self.pooled(_mean(x, count)), dim=1)
        y = self.layers(pooled.unsqueeze(1))
        output: Tensor = self.affine(torch.cat([y.mean(dim=2), y.std(dim=2)], dim=1))
        return output


class EmbeddingDenseHead(nn.Module):
    """Dense 512-512-128 on the pooled embedding; kept for the ablation.

    Untrained it is a random projection behind a ReLU and throws half of the voice away; it adds
    nothing that the trunk could not learn. (B, channels, T) to (B, 128).
    """

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.pooled = nn.Linear(channels, 512)
        self.layers = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, DENSE)
        )

    def forward(self, x: Tensor, count: Tensor | None = None) -> Tensor:
        pooled = nn.functional.normalize(self.pooled(_mean(x, count)), dim=1)
        output: Tensor = self.layers(pooled)
        return output


HEADS: dict[str, type[TdnnHead | MeanHead | EmbeddingConvHead | EmbeddingDenseHead]] = {
    "tdnn": TdnnHead,
    "mean": MeanHead,
    "embedding-conv": EmbeddingConvHead,
    "embedding-dense": EmbeddingDenseHead,
}


def _mask(count: Tensor | None, frames: int, x: Tensor) -> Tensor | None:
    """True inside each clip; shaped to multiply ``x``, (B, C, T) or (B, C, T, F)."""
    if count is None:
        return None
    inside = torch.arange(frames, device=x.device) < count.to(x.device)[:, None]
    return inside[:, None, :] if x.ndim == 3 else inside[:, None, :, None]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _mean(x: Tensor, count: Tensor | None) -> Tensor:
    if count is None:
        return x.mean(dim=2)
    return x.sum(dim=2) / count.to(x.device)[:, None]
