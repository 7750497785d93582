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

from advgan.networks.mel import STANDARD, MelConvention, mel_filters

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
        start = torch.polar(torch.ones_like(angles), angles)
        return fitting_phases(magnitudes, start, self.iterations, self.window, self.convention)

    def _to_waveform(self, spectrum: Tensor) -> Tensor:
        c = self.convention
        return torch.istft(spectrum, c.n_fft, c.hop, window=self.window)


def fitting_phases(
    magnitudes: Tensor, start: Tensor, iterations: int, window: Tensor, c: MelConvention
) -> Tensor:
    """Phases of a sound that has nearly these magnitudes (Griffin and Lim 1984), with momentum.

    Args:
        magnitudes: (B, n_fft // 2 + 1, T), and unit complex numbers of that shape to start from.

    Returns:
        Unit complex numbers of that shape.
    """
    phases, before = start, None
    for _ in range(iterations):
        sound = torch.istft(magnitudes * phases, c.n_fft, c.hop, window=window)
        rebuilt = torch.stft(sound, c.n_fft, c.hop, window=window, return_complex=True)
        ahead = rebuilt if before is None else rebuilt + MOMENTUM * (rebuilt - before)
        phases, before = ahead / ahead.abs().clamp(min=1e-8), rebuilt
    return phases


class VocoderConfig(BaseModel):
    """Shape of the neural vocoder; the defaults make 2.8 M parameters.

    Attributes:
        width: channels between blocks; ``hidden`` within.
        blocks: how many.
        iterations: of Griffin-Lim, from the network's phases; 0 keeps those. Magnitudes are
            learnt much sooner than phases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=256, ge=1, le=2048)
    hidden: int = Field(default=768, ge=1, le=8192)
    blocks: int = Field(default=6, ge=1, le=32)
    iterations: int = Field(default=0, ge=0, le=1000)


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
        width, self.iterations = self.config.width, self.config.iterations
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

    def spectrum(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Natural logarithms of magnitudes, and phases in radians, (B, n_fft // 2 + 1, T) each."""
        y = self.first(mel).transpose(1, 2)
        y = self.first_norm(y).transpose(1, 2)
        for block in self.blocks:
            y = block(y)
        y = self.head(self.last_norm(y.transpose(1, 2))).transpose(1, 2).float()
        magnitude, phase = y.chunk(2, dim=1)
        return magnitude.clamp(max=5.0), phase  # e^5 is above any frame of full scale

    def forward(self, mel: Tensor) -> Tensor:
        """See :class:`Vocoder`."""
        return self.sound(*self.spectrum(mel))

    def sound(self, log_magnitude: Tensor, angle: Tensor) -> Tensor:
        """What :meth:`spectrum` gave as waveforms (B, (T - 1) · hop)."""
        magnitude, phase = log_magnitude.exp(), torch.polar(torch.ones_like(angle), angle)
        c = self.convention
        if self.iterations:
            with torch.no_grad():
                phase = fitting_phases(magnitude, phase, self.iterations, self.window, c)
        return torch.istft(magnitude * phase, c.n_fft, c.hop, window=self.window)


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
