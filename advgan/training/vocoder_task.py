"""Training the neural vocoder: waveform to mel and back, judged by spectra and by adversaries.

The adversaries hear spectra at three resolutions, as Vocos' and UnivNet's do (Jang et al. 2021,
arXiv 2106.07889): what a mel distance cannot tell, a wrong phase among the rest, shows there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advgan.judging.quality import dnsmos
from advgan.networks import checkpoint
from advgan.networks.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    deceive_loss,
    judge_loss,
)
from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard, to_guard
from advgan.networks.vocoder import NeuralVocoder
from advgan.training.batches import Crops, load_dev
from advgan.training.config import VocoderRunConfig
from advgan.training.task import copy_of, device, start
from speakerguard.errors import UsageError
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.progress import Tell
from speakerguard.training.loop import Task, descend
from speakerguard.training.optimisers import optimisers

RESOLUTIONS = ((512, 128, 512), (1024, 256, 1024), (2048, 512, 2048))  # FFT, hop, window: samples


class SpectralLoss(nn.Module):
    """Distance of waveforms (B, n) by their spectra at three resolutions.

    Spectral convergence and L1 of log magnitudes, averaged (Yamamoto et al. 2020, arXiv
    1910.11480, section 2.2).
    """

    def forward(self, copy: Tensor, real: Tensor) -> Tensor:
        """0 for equal sounds."""
        losses = []
        for a, b in zip(spectra(copy), spectra(real), strict=True):
            losses.append((b - a).norm() / b.norm() + nn.functional.l1_loss(a.log(), b.log()))
        return torch.stack(losses).mean()


def spectra(waveform: Tensor) -> list[Tensor]:
    """Magnitudes (B, bins, frames) of waveforms (B, n), at least 1e-5, one a resolution."""
    found = []
    for size, hop, width in RESOLUTIONS:
        window = torch.hann_window(width, device=waveform.device)
        spectrum = torch.stft(waveform, size, hop, width, window, return_complex=True)
        found.append(spectrum.abs().clamp(min=1e-5))
    return found


def compressed_distance(copy: Tensor, real: Tensor) -> Tensor:
    """Mean difference of magnitudes, any shape, as loud as they seem rather than as they are."""
    return nn.functional.l1_loss((copy + 1e-5) ** 0.3, (real + 1e-5) ** 0.3)


class Adversaries(nn.Module):
    """A discriminator a resolution: waveforms (B, n) to opinions of patches, (B, all of them)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.judges = nn.ModuleList(Discriminator(config) for _ in RESOLUTIONS)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        pairs = zip(self.judges, spectra(waveform), strict=True)
        return torch.cat([judge(magnitudes.log10()).flatten(1) for judge, magnitudes in pairs], 1)


class VocoderTask(Task):
    """Copy-synthesis of crops; adversaries join where asked for."""

    def __init__(self, config: VocoderRunConfig, report: Tell = print) -> None:
        self.config = config
        self.crops = Crops(config, report)
        self.dev = load_dev(config)
        torch.manual_seed(config.seed)
        self.mel = MelSpectrogram().to(device())
        self.spectral = SpectralLoss()
        self.vocoder = start("vocoder", NeuralVocoder(config.model), config.init)
        self.average = copy_of(self.vocoder, NeuralVocoder(config.model))
        self.modules = {"vocoder": self.vocoder, "average": self.average}
        self.averages = {"average": "vocoder"}
        self.parameters = list(self.vocoder.parameters())
        self.optimisers = optimisers(self.vocoder, config, betas=(0.8, 0.99))
        self.movers = list(self.optimisers.values())
        if config.adversarial:
            self.judge = Adversaries(config.discriminator).to(device())
            self.modules["judge"] = self.judge
            self.optimisers["judge"] = torch.optim.AdamW(
                self.judge.parameters(), config.learning_rate / 2, betas=(0.5, 0.9)
            )

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        config = self.config
        crops = self.crops.draw(config.batch, self.crops.rng(step)).to(device())
        real = from_guard(crops)
        real = real[:, : real.shape[1] // STANDARD.hop * STANDARD.hop]
        real_mel = self.mel(real)
        self.vocoder.train()
        with torch.autocast(device().type, torch.bfloat16, enabled=config.bfloat16):
            spectrum = self.vocoder.spectrum(real_mel)
        parts: dict[str, Tensor] = {}
        if config.magnitudes:
            parts["magnitudes"] = config.magnitudes * compressed_distance(
                spectrum[0].exp(), self.mel.magnitudes(real)
            )
        if config.of_sounds:
            copy = self.vocoder.sound(*spectrum)
            distance = nn.functional.l1_loss(self.mel(copy), real_mel)
            parts["spectral"] = config.spectral * self.spectral(copy, real)
            parts["mel"] = config.mel_weight * distance
        if config.adversarial and step >= config.adversarial_from:
            judged = judge_loss(self.judge(real), self.judge(copy.detach()))
            descend(judged, [self.optimisers["judge"]], list(self.judge.parameters()), config.clip)
            parts["deceive"] = config.adversarial * deceive_loss(self.judge(copy))
        loss = torch.stack(list(parts.values())).sum()
        descend(loss, self.movers, self.parameters, config.clip)
        return {name: part.item() for name, part in parts.items()}

    def evaluate(self) -> dict[str, float]:
        """Spectral and mel distance of copies of dev's sources, and how they sound (DNSMOS).

        Adversaries raise the distances a little while they improve the sound, so it counts.
        """
        losses, mels, opinions = [], [], []
        with torch.inference_mode():
            for pair in self.dev:
                real = from_guard(pair.source[None].to(device()))
                real = real[:, : real.shape[1] // STANDARD.hop * STANDARD.hop]
                mel = self.mel(real)
                copy = self.average(mel)
                losses.append(self.spectral(copy, real).item())
                mels.append(nn.functional.l1_loss(self.mel(copy), mel).item())
                if self.config.dnsmos_weight:
                    opinions.append(self._opinion(copy))
        spectral, mel_distance = sum(losses) / len(losses), sum(mels) / len(mels)
        dev = spectral + self.config.mel_weight * mel_distance
        result = {"dev": dev, "spectral": spectral, "mel": mel_distance}
        if opinions:
            result["dnsmos"] = sum(opinions) / len(opinions)
            result["dev"] -= self.config.dnsmos_weight * result["dnsmos"]
        return result

    def _opinion(self, copy: Tensor) -> float:
        opinion = dnsmos(to_guard(copy)[0].clamp(-1, 1).cpu().numpy())
        if opinion is None:
            raise UsageError(
                "DNSMOS needs the package speechmos: pip install speechmos, or set "
                "dnsmos_weight: 0."
            )
        return opinion["overall"]

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`.Task.save`."""
        checkpoint.save("vocoder", self.average, self.config.out / MODEL_FILE, STANDARD, about)
