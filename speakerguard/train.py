"""Train the guard: balanced batches, simulated channels, a teacher, and the best weights kept.

A run is a folder: ``model.safetensors`` (best on dev, weights averaged over time),
``state.safetensors`` (everything needed to go on after a kill), ``history.jsonl``, ``curves.png``
and TensorBoard events. Batches depend only on the seed and the step, and the state of the random
generator is kept, so a resumed run ends where an unbroken one would have. Several GPUs:
``torchrun --nproc-per-node 2 -m speakerguard.train CONFIG``.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from speakerguard import checkpoint, losses
from speakerguard.batches import Batch, BatchSampler, Report
from speakerguard.config import TrainConfig, load
from speakerguard.devset import DevSet, chosen
from speakerguard.errors import CheckpointError, ConfigError, SpeakerguardError
from speakerguard.hardening import draw_victims, perturb
from speakerguard.model import SpeakerEncoder
from speakerguard.optimisers import Optimisers

TRUNK = ("front_end", "width", "activate_branch")  # what a trunk's weights depend on


class Trainer:
    """One run, from its configuration to its best weights."""

    def __init__(self, config: TrainConfig, report: Report = print) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        self.device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.world > 1:
            # the others wait while the first prepares speech and asks the teacher
            patience = timedelta(days=1)
            torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=patience)
        torch.set_num_threads(config.threads)
        self.config = config
        self.report: Report = report if self.rank == 0 else lambda _: None
        self.dev = DevSet(config.data.dev, config.data.dev_trials) if self.rank == 0 else None
        if self.rank > 0:
            torch.distributed.barrier()
        self.batches = BatchSampler(config, self.rank, self.report)
        if self.rank == 0 and self.world > 1:
            torch.distributed.barrier()
        torch.manual_seed(config.seed)  # after the teacher, which would draw from it
        self.encoder = self._encoder().to(self.device)
        self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = SpeakerEncoder(config.model).to(self.device).eval()
        self.average.load_state_dict(self.encoder.state_dict())
        dimension, scale = config.model.dimension, config.loss.scale
        # With a teacher to follow, the classes are known from the start; a model that was
        # trained before would unlearn much while random ones found their places.
        prototypes = self.batches.prototypes() if config.loss.distil_cosine else None
        self.softmax = losses.MarginSoftmax(dimension, self.batches.voices, scale, prototypes)
        self.softmax.to(self.device)
        learned = nn.ModuleList([self.encoder, self.softmax])
        self.learned: nn.Module = learned
        self.optimisers = Optimisers(self.encoder, self.softmax, config)
        self.step, self.best, self.seconds = 0, math.inf, 0.0
        self.history: list[dict[str, float]] = []
        self.random: Tensor | None = None
        self._resume()
        self.parallel: nn.Module = self.encoder
        if self.world > 1:
            self.parallel = nn.parallel.DistributedDataParallel(
                self.encoder, find_unused_parameters=config.frozen > 0
            )

    def _encoder(self) -> SpeakerEncoder:
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
        self.report(f"{self.config.init} gives its trunk; the head starts anew")
        return encoder

    def run(self) -> float:
        """Train to the last step; returns the best equal error rate on dev, in [0, 1]."""
        config = self.config
        remaining = range(self.step, config.steps)
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=remaining,
            num_workers=config.workers,
            prefetch_factor=8 if config.workers else None,
        )
        batches = iter(loader)  # draws a number itself, so it comes first
        if self.random is not None:
            torch.set_rng_state(self.random)
        started, first = time.monotonic() - self.seconds, self.step
        run_started = time.monotonic()
        recent: list[dict[str, float]] = []  # losses of each step since the last record
        for batch in batches:
            recent.append(self._learn(batch))
            self.step += 1
            if self.step % 50 == 0:
                pace = (time.monotonic() - run_started) / (self.step - first)
                left = pace * (config.steps - self.step) / 60
                clips = len(batch[0]) * self.world / pace
                self.report(
                    f"step {self.step}/{config.steps}  loss {_means(recent)['loss']:.3f}  "
                    f"{clips:.0f} crops/s  {left:.0f} min left"
                )
                if self.step % config.evaluate_every and self.step != config.steps:
                    self._record(recent)
                    recent = []
            if self.step % config.evaluate_every == 0 or self.step == config.steps:
                self.seconds = time.monotonic() - started
                if self.dev is not None:
                    self._evaluate(self.dev, recent)
                recent = []
        if self.world > 1:
            torch.distributed.destroy_process_group()
        return self.best

    def _learn(self, batch: Batch) -> dict[str, float]:
        config = self.config
        grown = min(1.0, self.step / (config.ramp * config.steps))
        self.softmax.margin = config.loss.margin * grown
        waveforms, labels, teacher, sources = (part.to(self.device) for part in batch)
        victims, goals = self._attack(waveforms, labels, grown)
        self.parallel.train()
        frozen = self.step < config.frozen
        self.encoder.trunk.requires_grad_(not frozen).train(not frozen)
        with torch.no_grad():
            features = self.encoder.front_end(waveforms)
            _mask_features(features, config, grown)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            embeddings = self.parallel(features, features=True)
        sizes = [len(labels), len(sources), len(sources)]
        voices, made, targets = embeddings.split(sizes)
        parts = losses.weighted(config.loss, voices, labels, teacher, self.softmax)
        if (attacks := config.attacks) and attacks.share:
            excess = losses.impersonation(voices[victims], voices[goals], attacks.limit)
            parts["gradient_attacks"] = attacks.weight * excess
        if attacks and attacks.made:
            excess = losses.impersonation(made, targets, attacks.limit)
            parts["conversions"] = attacks.weight * excess
        if attacks and attacks.keep_source:
            parts["keep_source"] = attacks.keep_source * losses.distil_cosine(made, sources)
        total = torch.stack(list(parts.values())).sum()
        self._require_finite("loss", total)
        self.learned.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for parameter in self.softmax.parameters():  # the encoder's are averaged by its wrapper
            if self.world > 1 and parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world
        norm = nn.utils.clip_grad_norm_(self.learned.parameters(), 5.0)
        self._require_finite("gradient", norm)
        self.optimisers.step(config.learning_rate * self._schedule())
        self._average()
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

    def _require_finite(self, what: str, value: Tensor) -> None:
        """Stop before anything that is not a number reaches the weights."""
        if torch.isfinite(value):
            return
        out, rate = self.config.out, self.config.learning_rate
        best = out / checkpoint.MODEL_FILE
        kept = f"The best weights so far are in {best}. " if best.exists() else ""
        raise SpeakerguardError(
            f"the {what} became {value.item()} at step {self.step} of {out}. {kept}Lower "
            f"learning_rate (now {rate:g}) and train with another `out`"
            + (f", from `init: {out}` if you like." if kept else ".")
        )

    def _schedule(self) -> float:
        """Share of the peak learning rate: linear warm-up, then a cosine to a hundredth."""
        config = self.config
        if self.step < config.warmup:
            return (self.step + 1) / config.warmup
        done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    def _average(self) -> None:
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            source = self.encoder.state_dict()
            for name, tensor in self.average.state_dict().items():
                if tensor.is_floating_point():
                    tensor.lerp_(source[name], 1 - decay)

    def _record(self, recent: list[dict[str, float]], **more: float) -> None:
        record = {"step": float(self.step), "lr": self.config.learning_rate * self._schedule()}
        self.history.append(record | _means(recent) | more)

    def _evaluate(self, dev: DevSet, recent: list[dict[str, float]]) -> None:
        figures = dev.figures(self.average)
        rate = chosen(figures, self.config.choose_by)
        self._record(recent, **figures, seconds=self.seconds)
        out = self.config.out
        if rate < self.best:
            self.best = rate
            checkpoint.save(self.average, out / checkpoint.MODEL_FILE, half=True)
        self._save_state()
        self.report(
            f"step {self.step}: EER on dev {100 * rate:.2f} % (best {100 * self.best:.2f} %), "
            f"weights in {out}"
        )
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        (out / "history.jsonl").write_text(lines, encoding="utf-8")
        self._draw()

    def _draw(self) -> None:
        # Without this mark TensorBoard imports all of TensorFlow to write its files.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
        from torch.utils.tensorboard import SummaryWriter

        from speakerguard.plots import plot_history

        plot_history(self.history, self.config.out / "curves.png")
        with SummaryWriter(str(self.config.out), filename_suffix=f".{self.step}") as writer:
            for name, value in self.history[-1].items():
                writer.add_scalar(name, value, self.step)

    def _save_state(self) -> None:
        tensors: dict[str, Tensor] = {}
        for prefix, module in self._modules().items():
            tensors |= {f"{prefix}.{n}": t for n, t in module.state_dict().items()}
        tensors |= self.optimisers.state()
        tensors["random"] = torch.get_rng_state()
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        progress = {"step": self.step, "best": self.best, "seconds": self.seconds}
        metadata = {
            "progress": json.dumps(progress),
            "history": json.dumps(self.history),
            "config": self.config.model_dump_json(exclude={"threads", "workers"}),
        }
        self.config.out.mkdir(parents=True, exist_ok=True)
        part = self.config.out / "state.safetensors.part"
        save_file(tensors, part, metadata=metadata)
        part.replace(self.config.out / "state.safetensors")

    def _resume(self) -> None:
        path = self.config.out / "state.safetensors"
        if not path.exists():
            return
        metadata, tensors = checkpoint.read_tensors(path, "pt", "Remove it to start over.")
        if not _same_run(json.loads(metadata["config"]), self.config):
            raise SpeakerguardError(
                f"{path} belongs to a run with another configuration. Choose another `out`, or "
                "remove that folder to start over."
            )
        voices = len(tensors["softmax.weight"])
        if voices != self.batches.voices:
            folders = ", ".join(map(str, self.config.data.folders))
            raise CheckpointError(
                f"{path}: trained on {voices} voices, {folders} now holds {self.batches.voices}. "
                "Choose another `out`, or remove that folder to start over."
            )
        for prefix, module in self._modules().items():
            size = len(prefix) + 1
            module.load_state_dict(
                {n[size:]: t for n, t in tensors.items() if n.startswith(prefix + ".")}
            )
        self.optimisers.load(tensors)
        progress = json.loads(metadata["progress"])
        self.step, self.best, self.seconds = (progress[n] for n in ("step", "best", "seconds"))
        self.history = json.loads(metadata["history"])
        self.random = tensors.get("random")
        self.report(f"going on from step {self.step} of {path}")

    def _modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "average": self.average, "softmax": self.softmax}


def _same_run(written: dict[str, Any], config: TrainConfig) -> bool:
    """Whether a state was written under ``config``; keys it does not know have their defaults."""
    try:
        kept = TrainConfig.model_validate(written)
    except ValidationError:
        return False
    machine = {"threads": config.threads, "workers": config.workers}
    return kept.model_copy(update=machine) == config


def _means(records: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each value over records that hold the same."""
    return {name: sum(r[name] for r in records) / len(records) for name in records[0]}


def _mask_features(features: Tensor, config: TrainConfig, strength: float) -> None:
    """SpecAugment (Park et al. 2019) in place: hide one band and one stretch of each clip."""
    _, frames, bands = features.shape
    for most, size, axis in ((config.bands_masked, bands, 2), (config.frames_masked, frames, 1)):
        width = (torch.rand(len(features)) * (int(most * strength) + 1)).int()
        start = (torch.rand(len(features)) * (size - width + 1)).int()
        index = torch.arange(size)
        hidden = (index >= start[:, None]) & (index < (start + width)[:, None])
        hidden = hidden.to(features.device)
        features.masked_fill_(hidden[:, None, :] if axis == 2 else hidden[:, :, None], 0.0)


def train(path: Path, report: Report = print, init: str | None = None) -> float:
    """Train by a configuration file; returns the best equal error rate on dev, in [0, 1].

    Args:
        init: model to start from, instead of the file's own ``init``.
    """
    config = load(path)
    if init is not None:
        config = config.model_copy(update={"init": init})
    return Trainer(config, report).run()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m speakerguard.train CONFIG, such as configs/guard.yaml")
    try:
        train(Path(sys.argv[1]), lambda line: print(line, flush=True))
    except SpeakerguardError as error:
        sys.exit(str(error))
