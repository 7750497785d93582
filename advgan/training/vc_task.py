"""Training AGAIN-VC without an adversary: a clip is rebuilt from its own words and voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from advgan.networks import checkpoint
from advgan.networks.generator import Generator
from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard
from advgan.networks.vocoder import GriffinLim
from advgan.training.batches import Crops, DevPair, load_dev
from advgan.training.config import VcConfig
from advgan.victim.loss import GuardLoss
from speakerguard.errors import CheckpointError
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.training.loop import Report, Task, descend
from speakerguard.training.optimisers import optimisers

Network = TypeVar("Network", bound=nn.Module)


def device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def start(kind: str, network: Network, init: str | None) -> Network:
    """``network`` on the device, with the weights of ``init`` where that is given.

    A generator that is told an embedding may start from one that is not.

    Raises:
        CheckpointError: ``init`` has another shape.
    """
    if init:
        loaded = checkpoint.load(kind, init).network
        wanted: Any = network.config
        plain = wanted.model_copy(update={"embedding": 0} if kind == "generator" else {})
        if loaded.config not in (wanted, plain):
            raise CheckpointError(
                f"{init}: its network is {loaded.config}, the configuration asks for {wanted}."
            )
        network.load_state_dict(loaded.state_dict(), strict=loaded.config == wanted)
    return network.to(device())


def copy_of(network: nn.Module, blank: Network) -> Network:
    """``blank`` with the weights of ``network``, in evaluation mode, to average into."""
    blank.load_state_dict(network.state_dict())
    return blank.to(device()).eval()


class VcTask(Task):
    """L1 between a mel and its reconstruction, the voice taken from the clip's halves swapped."""

    def __init__(self, config: VcConfig, report: Report = print) -> None:
        torch.set_num_threads(config.threads)
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
        made = judge.embed(converted, STANDARD.sample_rate)
        real = judge.embed(pair.enrol[None].to(device()), 16_000)
        return float((made * real).sum())


def swap_halves(mel: Tensor) -> Tensor:
    """The second half of (B, bands, T) before the first: the same voice saying something else."""
    half = mel.shape[2] // 2
    return torch.cat([mel[:, :, half:], mel[:, :, :half]], dim=2)
