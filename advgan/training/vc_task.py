"""Training AGAIN-VC without an adversary: a clip is rebuilt from its own words and voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advgan.networks import checkpoint
from advgan.networks.generator import Generator
from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard
from advgan.networks.vocoder import GriffinLim
from advgan.training.batches import Crops, DevPair, load_dev
from advgan.training.config import VcConfig
from advgan.training.task import copy_of, device, start, swap_halves
from advgan.victim.loss import GuardLoss
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.progress import Tell
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.training.loop import Task, descend
from speakerguard.training.optimisers import optimisers


class VcTask(Task):
    """L1 between a mel and its reconstruction, the voice taken from the clip's halves swapped."""

    def __init__(self, config: VcConfig, report: Tell = print) -> None:
        self.config = config
        self.crops = Crops(config, report)
        self.dev = load_dev(config)
        self.judge = GuardLoss(config.judge).to(device()) if config.judge else None
        torch.manual_seed(config.seed)
        self.mel = MelSpectrogram().to(device())
        self.vocoder = GriffinLim(iterations=8).to(device())
        self.generator = start("generator", Generator(config.model), config.init)
        self.average = copy_of(self.generator, Generator(config.model))
        self.modules = {"generator": self.generator, "average": self.average}
        self.averages = {"average": "generator"}
        self.parameters = list(self.generator.parameters())
        self.optimisers = optimisers(self.generator, config, torch.optim.Adam, amsgrad=True)

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        config = self.config
        waveforms = self.crops.draw(config.batch, self.crops.rng(step)).to(device())
        mel = self.mel(from_guard(waveforms))[:, :, : config.frames]
        self.generator.train()
        with torch.autocast(device().type, torch.bfloat16, enabled=config.bfloat16):
            rebuilt = self.generator(mel, swap_halves(mel))
        loss = nn.functional.l1_loss(rebuilt.float(), mel)
        descend(loss, self.optimisers.values(), self.parameters, config.clip)
        return {"reconstruction": loss.item()}

    def evaluate(self) -> dict[str, float]:
        """Reconstruction on dev decides; the judge's scores of conversions are recorded."""
        losses, scores = [], []
        with torch.inference_mode():
            for pair in self.dev:
                source = self._mel(pair.source)
                rebuilt = self.average(source, swap_halves(source))
                losses.append(nn.functional.l1_loss(rebuilt, source).item())
                if self.judge:
                    scores.append(self._score(self.judge, source, pair))
        result = {"dev": sum(losses) / len(losses)}
        return result | ({"judge": sum(scores) / len(scores)} if scores else {})

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`.Task.save`."""
        path = self.config.out / MODEL_FILE
        checkpoint.save("generator", self.average, path, STANDARD, {"objective": "vc", **about})

    def _mel(self, waveform: Tensor) -> Tensor:
        mel: Tensor = self.mel(from_guard(waveform[None].to(device())))
        return mel

    def _score(self, judge: GuardLoss, source: Tensor, pair: DevPair) -> float:
        converted = self.vocoder(self.average(source, self._mel(pair.target)))
        probe = judge.embed(converted, STANDARD.sample_rate)
        real = judge.embed(pair.enrol[None].to(device()), SAMPLE_RATE)
        return float((probe * real).sum())
