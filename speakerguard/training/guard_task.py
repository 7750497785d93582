"""A guard that learns from labels and from a teacher's embeddings, under simulated channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from speakerguard.errors import CheckpointError, ConfigError
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder
from speakerguard.progress import Tell
from speakerguard.training import losses
from speakerguard.training.batches import Batch, BatchSampler
from speakerguard.training.config import TrainConfig
from speakerguard.training.encoder_task import EncoderTask
from speakerguard.training.hardening import draw_victims, perturb
from speakerguard.training.loop import STATE_FILE, descend
from speakerguard.training.optimisers import optimisers

TRUNK = ("front_end", "width", "activate_branch")  # what a trunk's weights depend on


class GuardTask(EncoderTask):
    """The guard, from a teacher and from labels."""

    def __init__(self, config: TrainConfig, report: Tell = print) -> None:
        self.config = config
        super().__init__(config, lambda rank: BatchSampler(config, rank, report))
        assert isinstance(self.dataset, BatchSampler)
        self.batches = self.dataset
        self.start_from(self._encoder(report))
        dimension, scale = config.model.dimension, config.loss.scale
        # With a teacher to follow, the classes are known from the start; a model that was
        # trained before would unlearn much while random ones found their places.
        prototypes = self.batches.prototypes() if config.loss.distil_cosine else None
        self.softmax = losses.MarginSoftmax(dimension, self.batches.voices, scale, prototypes)
        self.softmax.to(self.device)
        self.modules = {"encoder": self.encoder, "average": self.average, "softmax": self.softmax}
        self.parameters = [*self.encoder.parameters(), *self.softmax.parameters()]
        self.optimisers = optimisers(self.encoder, config, more=self.softmax.parameters())
        self.parallel: nn.Module = self.encoder
        if self.world > 1:
            self.parallel = nn.parallel.DistributedDataParallel(
                self.encoder, find_unused_parameters=config.frozen > 0
            )

    def _encoder(self, report: Tell) -> SpeakerEncoder:
        if not self.config.init:
            if self.config.frozen:
                raise ConfigError("frozen keeps the trunk that init brings; give an init as well.")
            return SpeakerEncoder(self.config.model)
        start, _ = checkpoint.load(checkpoint.resolve(self.config.init))
        if start.config == self.config.model and not self.config.new_head:
            return start
        encoder = SpeakerEncoder(self.config.model)
        same = {name: getattr(self.config.model, name) for name in TRUNK}
        if start.config.model_copy(update=same) != start.config:
            raise CheckpointError(
                f"{self.config.init}: its network is {start.config}, the configuration asks for "
                f"{self.config.model}. To keep its trunk under another head, "
                f"{', '.join(TRUNK)} must be the same."
            )
        encoder.trunk.load_state_dict(start.trunk.state_dict())
        report(f"{self.config.init} gives its trunk; the head starts anew")
        return encoder

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`Task.learn`."""
        return self.learn_from(next(self.stream), step)

    def learn_from(self, batch: Batch, step: int) -> dict[str, float]:
        """One step from a batch; returns its losses."""
        config = self.config
        grown = min(1.0, step / (config.ramp * config.steps))
        self.softmax.margin = config.loss.margin * grown
        waveforms, labels, teacher, sources = (part.to(self.device) for part in batch)
        victims, goals = self._attack(waveforms, labels, grown)
        self.parallel.train()
        frozen = step < config.frozen
        self.encoder.trunk.requires_grad_(not frozen).train(not frozen)
        with torch.no_grad():
            features = self.encoder.front_end(waveforms)
            mask_features(features, config, grown)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            embeddings = self.parallel(features, features=True)
        sizes = [len(labels), len(sources), len(sources)]
        voices, converted, targets = embeddings.split(sizes)
        parts = losses.weighted(config.loss, voices, labels, teacher, self.softmax)
        if (attacks := config.attacks) and attacks.share:
            excess = losses.impersonation(voices[victims], voices[goals], attacks.limit)
            parts["gradient_attacks"] = attacks.weight * excess
        if attacks and attacks.made:
            excess = losses.impersonation(converted, targets, attacks.limit)
            parts["conversions"] = attacks.weight * excess
        if attacks and attacks.keep_source:
            parts["keep_source"] = attacks.keep_source * losses.distil_cosine(converted, sources)
        total = torch.stack(list(parts.values())).sum()
        # the encoder's gradients are averaged over processes by its wrapper
        shared = list(self.softmax.parameters()) if self.world > 1 else []
        descend(total, self.optimisers.values(), self.parameters, config.clip, shared)
        return {"loss": total.item(), **{name: part.item() for name, part in parts.items()}}

    def _attack(self, waveforms: Tensor, labels: Tensor, grown: float) -> tuple[Tensor, Tensor]:
        """Attack some crops in place by gradient; which ones, and whose voices they imitate."""
        attacks = self.config.attacks
        if not (attacks and attacks.share):
            return labels[:0], labels[:0]
        victims, goals = draw_victims(labels, attacks.share)
        if len(victims):
            self.encoder.eval()  # as it will be attacked
            with torch.no_grad():
                imitated = self._embed(waveforms[goals])
            waveforms[victims] = perturb(
                self._embed, waveforms[victims], imitated, grown * attacks.epsilon, attacks.steps
            )
        return victims, goals

    def _embed(self, waveforms: Tensor) -> Tensor:
        features = self.encoder.front_end(waveforms)  # in full precision
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            embeddings: Tensor = self.encoder(features, features=True)
        return embeddings

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """See :meth:`Task.check`."""
        voices = len(tensors["softmax/weight"])
        if voices != self.batches.voices:
            folders = ", ".join(map(str, self.config.data.folders))
            raise CheckpointError(
                f"{self.config.out / STATE_FILE}: trained on {voices} voices, {folders} now holds "
                f"{self.batches.voices}. Choose another `out`, or remove that folder to start over."
            )


def mask_features(features: Tensor, config: TrainConfig, strength: float) -> None:
    """SpecAugment (Park et al. 2019) in place: hide one band and one stretch of each clip."""
    _, frames, bands = features.shape
    for most, size, axis in ((config.bands_masked, bands, 2), (config.frames_masked, frames, 1)):
        width = (torch.rand(len(features)) * (int(most * strength) + 1)).int()
        start = (torch.rand(len(features)) * (size - width + 1)).int()
        index = torch.arange(size)
        hidden = (index >= start[:, None]) & (index < (start + width)[:, None])
        hidden = hidden.to(features.device)
        features.masked_fill_(hidden[:, None, :] if axis == 2 else hidden[:, :, None], 0.0)
