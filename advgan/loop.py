"""What every training run of the attacker does: go on after a kill, keep the best, stop at NaN.

A run is a folder as the guard's is: ``model.safetensors`` (best on dev), ``state.safetensors``
(everything needed to go on), ``history.jsonl``, ``curves.png``. Batches depend only on the seed
and the step, and the random generator's state is kept.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advgan.checkpoint import write_tensors
from advgan.config import OptimisedConfig, RunConfig
from speakerguard.checkpoint import MODEL_FILE, read_tensors
from speakerguard.errors import CheckpointError, SpeakerguardError
from speakerguard.optimisers import KernelMuon, parted
from speakerguard.plots import plot_history
from speakerguard.trials import replace_file

Report = Callable[[str], None]
STATE_FILE = "state.safetensors"
SAVE_SECONDS = 180.0  # between saved states, at least; a kill costs no more
_FREE = {"threads"}  # may differ when a run goes on


class Task(ABC):
    """What is learnt, and from what.

    Attributes:
        modules: all networks whose weights belong to the run, by name.
        optimisers: by name; their learning rates are scheduled.
        averages: names of modules that follow another as its running average.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    averages: dict[str, str]

    @abstractmethod
    def learn(self, step: int) -> dict[str, float]:
        """One step; returns its losses."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measures on dev; the value named ``dev`` decides, and lower is better."""

    @abstractmethod
    def save(self, about: Mapping[str, Any]) -> None:
        """Write the model that is being trained to the run's folder."""


class NotFiniteError(Exception):
    """A loss or gradient is no number any more."""


def descend(
    loss: Tensor,
    optimisers: Sequence[torch.optim.Optimizer],
    parameters: list[nn.Parameter],
    clip: float,
) -> None:
    """One step down the gradient, unless something is not finite.

    Raises:
        NotFiniteError: the loss or its gradient; the weights are as they were.
    """
    if not torch.isfinite(loss):
        raise NotFiniteError(f"the loss became {loss.item()}")
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm):
        raise NotFiniteError(f"the gradient became {norm.item()}")
    for optimiser in optimisers:
        optimiser.step()


def network_optimisers(
    network: nn.Module, config: OptimisedConfig, **adam: Any
) -> list[torch.optim.Optimizer]:
    """What ``config`` asks for: Adam, or Muon for the kernels and Adam for the rest.

    Args:
        adam: further settings of Adam's.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "adam":
        return [torch.optim.Adam(network.parameters(), rate, weight_decay=decay, **adam)]
    kernels, rest = parted(network.parameters())
    return [
        torch.optim.Adam(rest, rate, weight_decay=decay, **adam),
        KernelMuon(kernels, rate, decay),
    ]


class Loop:
    """One run, from its configuration to its best weights."""

    def __init__(self, config: RunConfig, task: Task, report: Report = print) -> None:
        self.config, self.task, self.report = config, task, report
        self.step, self.best, self.seconds = 0, math.inf, 0.0
        self.history: list[dict[str, float]] = []
        self.rates = {
            name: [group["lr"] for group in optimiser.param_groups]
            for name, optimiser in task.optimisers.items()
        }
        self._resume()

    def run(self) -> float:
        """Train to the last step; returns the best measure on dev.

        Raises:
            SpeakerguardError: a loss or gradient is not finite.
        """
        config, first = self.config, self.step
        started = time.monotonic()
        before = self.seconds
        recent: list[dict[str, float]] = []
        saved = started
        while self.step < config.steps:
            self._schedule()
            try:
                recent.append(self.task.learn(self.step))
            except NotFiniteError as error:
                raise self._stopped(error) from None
            self._average()
            self.step += 1
            self.seconds = before + time.monotonic() - started
            if self.step % 50 == 0 or self.step == first + 5:
                pace = (time.monotonic() - started) / (self.step - first)
                left = pace * (config.steps - self.step) / 60
                parts = "  ".join(f"{n} {v:.3f}" for n, v in _means(recent).items())
                self.report(
                    f"step {self.step}/{config.steps}  {parts}  {pace:.2f} s/step  {left:.0f} min "
                    "left"
                )
            if self.step % config.evaluate_every == 0 or self.step == config.steps:
                self._evaluate(recent)
                recent = []
                saved = time.monotonic()
            elif time.monotonic() - saved > SAVE_SECONDS:
                self._save_state()
                saved = time.monotonic()
        return self.best

    def _schedule(self) -> None:
        config = self.config
        if self.step < config.warmup:
            share = (self.step + 1) / config.warmup
        else:
            done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
            share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        for name, optimiser in self.task.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * share

    def _average(self) -> None:
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for average, name in self.task.averages.items():
                source = self.task.modules[name].state_dict()
                for key, tensor in self.task.modules[average].state_dict().items():
                    if tensor.is_floating_point():
                        tensor.lerp_(source[key], 1 - decay)

    def _evaluate(self, recent: list[dict[str, float]]) -> None:
        measures = self.task.evaluate()
        if not math.isfinite(measures["dev"]):
            raise self._stopped(NotFiniteError(f"the measure on dev became {measures['dev']}"))
        self.history.append({"step": float(self.step), **_means(recent), **measures})
        if measures["dev"] < self.best:
            self.best = measures["dev"]
            self.task.save({"step": self.step, "steps": self.config.steps, **measures})
        self._save_state()
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        replace_file(self.config.out / "history.jsonl", lines)
        plot_history(self.history, self.config.out / "curves.png")
        shown = "  ".join(f"{name} {value:.4f}" for name, value in measures.items())
        self.report(f"step {self.step}: on dev {shown} (best {self.best:.4f}) in {self.config.out}")

    def _stopped(self, error: NotFiniteError) -> SpeakerguardError:
        out, rate = self.config.out, self.config.learning_rate
        kept = f"The best weights so far are in {out / MODEL_FILE}. "
        return SpeakerguardError(
            f"{error} at step {self.step} of {out}. {kept if self.best < math.inf else ''}Lower "
            f"learning_rate (now {rate:g}) and train with another `out`."
        )

    def _save_state(self) -> None:
        tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
        for prefix, module in self.task.modules.items():
            tensors |= {f"{prefix}/{n}": t for n, t in module.state_dict().items()}
        for prefix, optimiser in self.task.optimisers.items():
            for index, slot in optimiser.state_dict()["state"].items():
                tensors |= {
                    f"optimiser/{prefix}/{index}/{n}": torch.as_tensor(t) for n, t in slot.items()
                }
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        progress = {"step": self.step, "best": self.best, "seconds": self.seconds}
        metadata = {
            "progress": json.dumps(progress),
            "history": json.dumps(self.history),
            "config": self.config.model_dump_json(exclude=_FREE),
        }
        write_tensors(self.config.out / STATE_FILE, tensors, metadata)

    def _resume(self) -> None:
        path = self.config.out / STATE_FILE
        if not path.exists():
            return
        metadata, tensors = read_tensors(path, "pt", "Remove it to start over.")
        if metadata["config"] != self.config.model_dump_json(exclude=_FREE):
            raise CheckpointError(
                f"{path} belongs to a run with another configuration. Choose another `out`, or "
                "remove that folder to start over."
            )
        for prefix, module in self.task.modules.items():
            start = f"{prefix}/"
            module.load_state_dict(
                {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
            )
        for prefix, optimiser in self.task.optimisers.items():
            state: dict[int, dict[str, Any]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimiser/{prefix}/"):
                    _, _, index, slot = name.split("/", 3)
                    state.setdefault(int(index), {})[slot] = tensor
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        progress = json.loads(metadata["progress"])
        self.step, self.best, self.seconds = (progress[n] for n in ("step", "best", "seconds"))
        self.history = json.loads(metadata["history"])
        torch.set_rng_state(tensors["random"])
        self.report(f"going on from step {self.step} of {path}")


def _means(records: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each value over the records that hold it."""
    names = dict.fromkeys(name for record in records for name in record)
    return {
        name: sum(found) / len(found)
        for name in names
        if (found := [record[name] for record in records if name in record])
    }
