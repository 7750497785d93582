"""Training against a guard: conversions, or perturbations, that its threshold lets through.

The guard's own front end and network are in the loss. Other verifiers judge the result elsewhere
and never appear here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advgan.networks import checkpoint
from advgan.networks.discriminator import Discriminator, deceive_loss, judge_loss
from advgan.networks.generator import Generator
from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard
from advgan.networks.perturber import Perturber
from advgan.networks.vocoder import GRIFFIN_LIM, GriffinLim, NeuralVocoder, Vocoder
from advgan.training.batches import Crops, load_dev
from advgan.training.config import AdversarialConfig
from advgan.training.task import copy_of, device, start, swap_halves
from advgan.victim.loss import GuardLoss
from speakerguard.errors import ConfigError
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.progress import Tell
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.training.loop import Task, descend
from speakerguard.training.optimisers import optimisers


class AdversarialTask(Task):
    """What both kinds of attack share: guard, discriminator, crops, averages.

    The weights kept are those with the lowest loss on dev pairs, of the same parts as in training
    but for the discriminator's, whose scale drifts.
    """

    kind: str

    def __init__(self, config: AdversarialConfig, network: nn.Module, report: Tell) -> None:
        self.config = config
        self.guard = GuardLoss(config.guard, config.point).to(device())
        self.crops = Crops(config, report)
        self.dev = load_dev(config)
        self.mel = MelSpectrogram().to(device())
        self.network = start(self.kind, network, config.init)
        self.average = copy_of(self.network, type(network)(network.config))
        self.judge = Discriminator(config.discriminator).to(device())
        self.modules = {"network": self.network, "average": self.average, "judge": self.judge}
        self.averages = {"average": "network"}
        self.parameters = list(self.network.parameters())
        self.optimisers = optimisers(self.network, config, torch.optim.Adam, betas=(0.5, 0.999))
        self.movers = list(self.optimisers.values())
        self.optimisers["judge"] = torch.optim.Adam(
            self.judge.parameters(), config.discriminator_rate, betas=(0.5, 0.999)
        )
        self.basis = (
            f"against {config.guard} {self.guard.fingerprint}, from a score of "
            f"{self.guard.threshold:.3f} ({self.guard.unit})"
        )
        report(self.basis)

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`.Task.save`."""
        about = {
            **about,  # among them the guard's loss, under a name that is needed otherwise
            "guard_loss": about["guard"],
            "objective": "adversarial",
            "guard": self.guard.fingerprint,
            "threshold": self.guard.threshold,
            "vocoder": self.config.vocoder,
        }
        checkpoint.save(self.kind, self.average, self.config.out / MODEL_FILE, STANDARD, about)

    def _targets(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Voices to imitate and what their profiles are made of, (batch, n) each."""
        config = self.config
        first, second = self.crops.draw_targets(
            config.batch,
            rng,
            config.target_seconds,
            config.target_speeds,
            config.invented,
        )
        return first.to(device()), second.to(device())

    def _mixed(self, rng: np.random.Generator, *waveforms: Tensor) -> list[Tensor]:
        """Embeddings (B, D) of each of (B, n), all moved alike.

        Some rows move towards the row before, and each by a random vector.
        """
        config = self.config
        embeddings = [self._embed(one, SAMPLE_RATE) for one in waveforms]
        share = rng.uniform(0.25, 0.75, config.batch)
        share[rng.random(config.batch) >= config.target_mixing] = 1
        shape = embeddings[0].shape
        away = rng.standard_normal(shape) * config.target_noise / shape[1] ** 0.5
        own, moved = (
            torch.tensor(values, dtype=torch.float32, device=device())
            for values in (share[:, None], away)
        )
        between = (own * voices + (1 - own) * voices.roll(1, dims=0) for voices in embeddings)
        return [nn.functional.normalize(voices + moved, dim=1) for voices in between]

    def _embed(self, waveform: Tensor, rate: int) -> Tensor:
        """What the guard hears in waveforms (B, n): unit embeddings (B, D), with gradient."""
        with torch.autocast(device().type, torch.bfloat16, enabled=self.config.bfloat16):
            return self.guard.embed(waveform, rate).float()

    def _judged(self, probes: Tensor, voices: Tensor) -> dict[str, Tensor]:
        """The guard's mean score of embeddings (B, D) of what was made, and the share accepted."""
        with torch.no_grad():
            scores = self.guard.scores(voices, probes)
        return {
            "score": scores.mean(),
            "passed": (scores >= self.guard.threshold).float().mean(),
        }

    def _fake(self, real: Tensor, fake: Tensor) -> Tensor:
        """Teach the discriminator mels (B, bands, T), then ask it how well ``fake`` passes."""
        judged = judge_loss(self.judge(real), self.judge(fake.detach()))
        parameters = list(self.judge.parameters())
        descend(judged, [self.optimisers["judge"]], parameters, self.config.clip)
        return deceive_loss(self.judge(fake))

    def _descend(self, parts: Mapping[str, Tensor]) -> dict[str, float]:
        loss = torch.stack(list(parts.values())).sum()
        descend(loss, self.movers, self.parameters, self.config.clip)
        return {name: part.item() for name, part in parts.items()}

    def _measures(self, rows: list[dict[str, float]]) -> dict[str, float]:
        """Means over dev pairs; ``dev`` is the sum of the weighted losses among them."""
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        losses = {"guard", "reconstruction", "content", "sound"}
        return {"dev": sum(value for name, value in means.items() if name in losses), **means}


class ConvertTask(AdversarialTask):
    """An AGAIN-VC generator, through a vocoder, against guard and discriminator."""

    kind = "generator"

    def __init__(self, config: AdversarialConfig, report: Tell = print) -> None:
        torch.manual_seed(config.seed)
        super().__init__(config, Generator(config.model), report)
        told, known = config.model.embedding, self.guard.encoder.config.dimension
        if told not in (0, known):
            raise ConfigError(
                f"model.embedding is {told}, but {config.guard} makes embeddings of {known} "
                f"values: set it to {known}, or to 0."
            )
        self.vocoder = frozen_vocoder(config)

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        config, rng = self.config, self.crops.rng(step)
        sources = self.crops.draw(config.batch, rng, config.invented).to(device())
        targets, enrolled = self._targets(rng)
        with torch.no_grad():
            source, target = (
                self.mel(from_guard(c[:, : self.crops.count]))[:, :, : config.frames]
                for c in (sources, targets)
            )
            utterances = [targets, enrolled] if config.model.embedding else [enrolled]
            *known, voices = self._mixed(rng, *utterances)
            told = torch.cat([self._embed(sources, SAMPLE_RATE), *known]) if known else None
        self.network.train()
        with torch.autocast(device().type, torch.bfloat16, enabled=config.bfloat16):
            # one pass for both, so that normalisation sees rebuilt and converted clips alike
            mels = self.network(
                torch.cat([source, source]),
                torch.cat([swap_halves(source), target]),
                told,
            ).float()
        rebuilt, converted = mels.chunk(2)
        parts = self._parts(self.network, source, rebuilt, converted, voices)
        parts["gan"] = config.loss.gan * self._fake(torch.cat([source, target]), converted)
        return self._descend({n: p for n, p in parts.items() if n not in {"score", "passed"}})

    def evaluate(self) -> dict[str, float]:
        """See :class:`AdversarialTask`; also the guard's mean score, and the share let through."""
        rows = []
        with torch.inference_mode():
            for pair in self.dev:
                source, target = (self._mel(c) for c in (pair.source, pair.target))
                own, known = (self._told(c[None].to(device())) for c in (pair.source, pair.target))
                voice = self._embed(pair.enrol[None].to(device()), SAMPLE_RATE)
                rebuilt = self.average(source, swap_halves(source), own)
                converted = self.average(source, target, known)
                parts = self._parts(self.average, source, rebuilt, converted, voice)
                rows.append({name: part.item() for name, part in parts.items()})
        return self._measures(rows)

    def _parts(
        self, network: Any, source: Tensor, rebuilt: Tensor, converted: Tensor, voices: Tensor
    ) -> dict[str, Tensor]:
        weights = self.config.loss
        with torch.no_grad():
            words = network.encode(source).content
        kept = network.encode(converted).content
        sound = self.vocoder(converted)
        probes = self._embed(sound, STANDARD.sample_rate)
        l1 = nn.functional.l1_loss
        return {
            "guard": weights.guard * self.guard(probes, voices, weights.margin),
            "reconstruction": weights.reconstruction * l1(rebuilt, source),
            "content": weights.content * l1(kept, words),
            **self._judged(probes, voices),
        }

    def _mel(self, waveform: Tensor) -> Tensor:
        mel: Tensor = self.mel(from_guard(waveform[None].to(device())))
        return mel

    def _told(self, waveforms: Tensor) -> Tensor | None:
        """The guard's embeddings (B, D) of (B, n), where the generator is told; else no pass."""
        return self._embed(waveforms, SAMPLE_RATE) if self.config.model.embedding else None


class PerturbTask(AdversarialTask):
    """A bounded perturbation of the waveform, against guard and discriminator."""

    kind = "perturber"

    def __init__(self, config: AdversarialConfig, report: Tell = print) -> None:
        torch.manual_seed(config.seed)
        super().__init__(config, Perturber(config.perturber), report)
        told, known = config.perturber.embedding, self.guard.encoder.config.dimension
        if told != known:
            raise ConfigError(
                f"perturber.embedding is {told}, but {config.guard} makes embeddings of {known} "
                f"values: set it to {known}."
            )

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        config, rng = self.config, self.crops.rng(step)
        sources = self.crops.draw(config.batch, rng, config.invented).to(device())
        targets, enrolled = self._targets(rng)
        with torch.no_grad():
            known, voices = self._mixed(rng, targets, enrolled)
        self.network.train()
        assert isinstance(self.network, Perturber)
        with torch.autocast(device().type, torch.bfloat16, enabled=config.bfloat16):
            change = self.network.delta(sources, known)
        perturbed = (sources + change.float()).clamp(-1.0, 1.0)
        parts = self._parts(sources, perturbed, voices)
        real, fake = (self.mel(from_guard(c)) for c in (sources, perturbed))
        parts["gan"] = config.loss.gan * self._fake(real, fake)
        return self._descend({n: p for n, p in parts.items() if n not in {"score", "passed"}})

    def evaluate(self) -> dict[str, float]:
        """As :meth:`ConvertTask.evaluate`."""
        rows = []
        with torch.inference_mode():
            for pair in self.dev:
                clips = (pair.source, pair.target, pair.enrol)
                source, target, enrol = (clip[None].to(device()) for clip in clips)
                known, voice = (self._embed(c, SAMPLE_RATE) for c in (target, enrol))
                parts = self._parts(source, self.average(source, known), voice)
                rows.append({name: part.item() for name, part in parts.items()})
        return self._measures(rows)

    def _parts(self, sources: Tensor, perturbed: Tensor, voices: Tensor) -> dict[str, Tensor]:
        weights = self.config.loss
        probes = self._embed(perturbed, SAMPLE_RATE)
        change = (perturbed - sources) / self.config.perturber.epsilon
        return {
            "guard": weights.guard * self.guard(probes, voices, weights.margin),
            "sound": weights.sound * change.square().mean(),
            **self._judged(probes, voices),
        }


def frozen_vocoder(config: AdversarialConfig) -> Vocoder:
    """The vocoder between generator and guard; its weights stay, its gradient passes."""
    if config.vocoder == GRIFFIN_LIM:
        return GriffinLim(iterations=config.iterations).to(device())
    vocoder = checkpoint.load_vocoder(config.vocoder)
    assert isinstance(vocoder, NeuralVocoder)
    vocoder.iterations = min(vocoder.iterations, config.iterations)
    return vocoder.requires_grad_(False).to(device())
