"""From mel spectrogram to waveform: Griffin-Lim without weights, and a small neural vocoder.

Both take mels (B, bands, T) of a stated convention and give waveforms (B, (T - 1) · hop) at its
rate. Both are differentiable, so that a verifier's opinion of the sound reaches the generator.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from advgan.mel import STANDARD, MelConvention, mel_filters

GRIFFIN_LIM = "griffin-lim"
ITERATIONS = 32  # of Griffin-Lim
MOMENTUM = 0.99  # Perraudin et al. 2013


class Vocoder(Protocol):
    """What turns mels into sound.

    Attributes:
        name: for reports.
        convention: of the mels it takes.
    """

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> MelConvention: ...

    def __call__(self, mel: Tensor) -> Tensor:
        """Mels (B, bands, T) to waveforms (B, (T - 1) · hop)."""


class GriffinLim(nn.Module):
    """Phases that fit the magnitudes, found by turns (Griffin and Lim 1984), with momentum.

    The search itself has no gradient. Given the phases it found, the waveform depends on the mel
    through the magnitudes, and there the gradient flows.

    >>> GriffinLim(iterations=2)(torch.zeros(1, 80, 20)).shape
    torch.Size([1, 4864])
    """

    name = GRIFFIN_LIM

    window: Tensor
    filters: Tensor
    inverse: Tensor

    def __init__(self, convention: MelConvention = STANDARD, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.convention, self.iterations = convention, iterations
        filters = mel_filters(convention)
        self.register_buffer("window", torch.hann_window(convention.n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        inverse = torch.from_numpy(np.linalg.pinv(filters)).float()
        self.register_buffer("inverse", inverse, persistent=False)

    def magnitudes(self, mel: Tensor) -> Tensor:
        """Least-squares linear magnitudes (B, n_fft // 2 + 1, T), none below 0."""
        bands = 10 ** mel.to(self.inverse.dtype).clamp(max=4.0)
        bands = torch.where(mel <= self.convention.silence, torch.zeros_like(bands), bands)
        return torch.matmul(self.inverse, bands).clamp(min=0.0)

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        magnitudes = self.magnitudes(mel)
        with torch.no_grad():
            phases = self._phases(magnitudes)
        return self._to_waveform(magnitudes * phases)

    def _phases(self, magnitudes: Tensor) -> Tensor:
        """Unit complex numbers, shaped like the magnitudes; the start is the same every time."""
        generator = torch.Generator().manual_seed(0)
        angles = 2 * torch.pi * torch.rand(magnitudes.shape[1:], generator=generator)
        angles = angles.to(magnitudes.device).expand_as(magnitudes)
        phases, before = torch.polar(torch.ones_like(angles), angles), None
        for _ in range(self.iterations):
            rebuilt = self._to_spectrum(self._to_waveform(magnitudes * phases))
            ahead = rebuilt if before is None else rebuilt + MOMENTUM * (rebuilt - before)
            phases, before = ahead / ahead.abs().clamp(min=1e-8), rebuilt
        return phases

    def _to_waveform(self, spectrum: Tensor) -> Tensor:
        c = self.convention
        return torch.istft(spectrum, c.n_fft, c.hop, window=self.window)

    def _to_spectrum(self, waveform: Tensor) -> Tensor:
        c = self.convention
        return torch.stft(waveform, c.n_fft, c.hop, window=self.window, return_complex=True)


class VocoderConfig(BaseModel):
    """Shape of the neural vocoder; the defaults make 2.8 M parameters.

    Attributes:
        width: channels between blocks; ``hidden`` within.
        blocks: how many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=256, ge=1)
    hidden: int = Field(default=768, ge=1)
    blocks: int = Field(default=6, ge=1)


class NeuralVocoder(nn.Module):
    """Vocos in small: ConvNeXt blocks at frame rate, then one inverse Fourier transform.

    The network predicts logarithmic magnitude and phase of every bin (Siuzdak 2023, arXiv
    2306.00814), so nothing runs at the rate of samples and it is fast on one thread.

    >>> NeuralVocoder(VocoderConfig(width=8, hidden=8, blocks=1))(torch.zeros(1, 80, 20)).shape
    torch.Size([1, 4864])
    """

    name = "neural"

    window: Tensor

    def __init__(
        self, config: VocoderConfig | None = None, convention: MelConvention = STANDARD
    ) -> None:
        super().__init__()
        self.config, self.convention = config or VocoderConfig(), convention
        width = self.config.width
        self.first = nn.Conv1d(convention.bands, width, 7, padding=3)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, self.config.hidden, 1 / self.config.blocks)
            for _ in range(self.config.blocks)
        )
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, convention.n_fft + 2)
        self.register_buffer("window", torch.hann_window(convention.n_fft), persistent=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, mel: Tensor) -> Tensor:
        """See :class:`Vocoder`."""
        y = self.first(mel).transpose(1, 2)
        y = self.first_norm(y).transpose(1, 2)
        for block in self.blocks:
            y = block(y)
        y = self.head(self.last_norm(y.transpose(1, 2))).transpose(1, 2).float()
        log_magnitude, phase = y.chunk(2, dim=1)
        magnitude = log_magnitude.clamp(max=5.0).exp()  # e^5 is above any frame of full scale
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        c = self.convention
        return torch.istft(spectrum, c.n_fft, c.hop, window=self.window)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation, two affine layers, added on: (B, C, T) to the same."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.scale * self.narrow(nn.functional.gelu(self.widen(y)))
        return x + y.transpose(1, 2)
