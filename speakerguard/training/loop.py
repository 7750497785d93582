"""What every training run does: go on after a kill, keep the best, stop at NaN.

A run is a folder: ``model.safetensors`` (best on dev, weights averaged over time),
``state.safetensors`` (everything needed to go on after a kill), ``history.jsonl``, ``curves.png``
and TensorBoard events. Batches depend only on the seed and the step, and the state of the random
generator is kept, so a resumed run ends where an unbroken one would have.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from speakerguard.errors import CheckpointError, SpeakerguardError
from speakerguard.files import replace_file
from speakerguard.network.checkpoint import MODEL_FILE, read_tensors, write_tensors
from speakerguard.processes import torch_threads
from speakerguard.progress import Tell, TimeLeft
from speakerguard.training.config import RunConfig

STATE_FILE = "state.safetensors"
SAVE_SECONDS = 180.0  # between saved states, at least; a kill costs no more
RECORD_EVERY = 50  # steps


class Task(ABC):
    """What is learnt, and from what.

    Attributes:
        modules: all networks whose weights belong to the run, by name.
        optimisers: by name; their learning rates are scheduled.
        averages: names of modules that follow another as its running average.
        leads: whether it evaluates and saves; of several processes, one does.
        keeps_last: whether later weights replace earlier ones that were better on dev.
        basis: what a run cannot exchange on its way, beside its configuration.
        measures_shares: whether all that it measures on dev lies between 0 and 1.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    averages: dict[str, str]
    leads: bool = True
    keeps_last: bool = False
    basis: str = ""
    measures_shares: bool = False

    def begin(self, step: int) -> None:
        """Called once, before the first step of this process, and before randomness is restored."""
        return

    @abstractmethod
    def learn(self, step: int) -> dict[str, float]:
        """One step; returns its losses."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measures on dev."""

    @abstractmethod
    def save(self, about: Mapping[str, Any]) -> None:
        """Write the model that is being trained to the run's folder."""

    def decisive(self, measures: Mapping[str, float]) -> float:
        """The one of the measures that weights are chosen by; lower is better."""
        return measures["dev"]

    def shown(self, measures: Mapping[str, float], best: float) -> str:
        """What :meth:`evaluate` found, and the best so far, for a person."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in measures.items())
        return f"on dev {values} (best {best:.4f})"

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse a state that fits the configuration but not what there is to learn from."""
        return

    def end(self) -> None:
        """Called once, after the last step."""
        return


class NotFiniteError(Exception):
    """A loss or gradient is no number any more."""


def descend(
    loss: Tensor,
    optimisers: Iterable[torch.optim.Optimizer],
    parameters: list[nn.Parameter],
    clip: float,
    shared: Sequence[nn.Parameter] = (),
) -> None:
    """One step down the gradient, unless something is not finite.

    Args:
        shared: weights whose gradients are averaged over processes here, and by no wrapper.

    Raises:
        NotFiniteError: the loss or its gradient; the weights are as they were.
    """
    if not torch.isfinite(loss):
        raise NotFiniteError(f"the loss became {loss.item()}")
    optimisers = list(optimisers)
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter in shared:
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm):
        raise NotFiniteError(f"the gradient became {norm.item()}")
    for optimiser in optimisers:
        optimiser.step()


class Loop:
    """One run, from its configuration to its best weights."""

    def __init__(self, config: RunConfig, task: Task, report: Tell = print) -> None:
        self.config, self.task, self.report = config, task, report
        self.step, self.best, self.seconds = 0, math.inf, 0.0
        self.history: list[dict[str, float]] = []
        self.random: Tensor | None = None
        self._measured: Collection[str] = ()  # on dev, as the history names it
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
        with torch_threads(config.threads):
            if first < config.steps:
                self.task.begin(first)
                if self.random is not None:
                    torch.set_rng_state(self.random)
            with _stops(self.report) as stops:
                self._steps(first, stops)
            self.task.end()
        return self.best

    def _steps(self, first: int, stops: Sequence[int]) -> None:
        config = self.config
        started, left = time.monotonic(), TimeLeft(first)
        before = self.seconds
        recent: list[dict[str, float]] = []  # losses of each step since the last record
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
            evaluates = self.step % config.evaluate_every == 0 or self.step == config.steps
            if self.step % RECORD_EVERY == 0 or self.step == first + 5:
                pace = (time.monotonic() - started) / (self.step - first)
                parts = "  ".join(f"{n} {v:.3f}" for n, v in _means(recent).items())
                self.report(
                    f"step {self.step}/{config.steps}  {parts}  {pace:.2f} s/step  "
                    f"{left(self.step, config.steps)}"
                )
            if evaluates and self.task.leads:
                self._evaluate(recent)
                saved = time.monotonic()
            elif self.step % RECORD_EVERY == 0:
                self._record(recent)
            if evaluates or self.step % RECORD_EVERY == 0:
                recent = []
            if self.task.leads and (stops or time.monotonic() - saved > SAVE_SECONDS):
                self._save_state()
                saved = time.monotonic()
            if stops:
                raise KeyboardInterrupt

    def rate_factor(self) -> float:
        """Of the peak learning rate: linear warm-up, then a cosine to a hundredth."""
        config = self.config
        if self.step < config.warmup:
            return (self.step + 1) / config.warmup
        done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    def _schedule(self) -> None:
        factor = self.rate_factor()
        for name, optimiser in self.task.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor

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
        found = self.task.decisive(measures)
        if not math.isfinite(found):
            raise self._stopped(NotFiniteError(f"the measure on dev became {found}"))
        self._record(recent, **measures, seconds=self.seconds)
        if found < self.best or self.task.keeps_last:
            self.best = found
            self.task.save({"step": self.step, "steps": self.config.steps, **measures})
        self._save_state()
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        replace_file(self.config.out / "history.jsonl", lines)
        draw(self.history, self.config.out, self._measured if self.task.measures_shares else ())
        shown = self.task.shown(measures, self.best)
        self.report(f"step {self.step}: {shown} in {self.config.out}")

    def _record(self, recent: list[dict[str, float]], **more: float) -> None:
        rate = self.config.learning_rate * self.rate_factor()
        losses = _means(recent)
        more = {f"dev {name}" if name in losses else name: value for name, value in more.items()}
        if more:
            self._measured = more.keys() - {"seconds"}
        self.history.append({"step": float(self.step), "lr": rate, **losses, **more})

    def _stopped(self, error: NotFiniteError) -> SpeakerguardError:
        out, rate = self.config.out, self.config.learning_rate
        known = self.best < math.inf
        kept = f"The best weights so far are in {out / MODEL_FILE}. " if known else ""
        return SpeakerguardError(
            f"{error} at step {self.step} of {out}. {kept}Lower learning_rate (now {rate:g}) and "
            "train with another `out`" + (f", from `init: {out}` if you like." if known else ".")
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
            "config": self.config.model_dump_json(),
            "basis": self.task.basis,
        }
        write_tensors(self.config.out / STATE_FILE, tensors, metadata)

    def _resume(self) -> None:
        path = self.config.out / STATE_FILE
        if not path.exists():
            return
        metadata, tensors = read_tensors(path, "pt", "Remove it to start over.")
        if not _same_run(json.loads(metadata["config"]), self.config):
            raise CheckpointError(
                f"{path} belongs to a run with another configuration. Choose another `out`, or "
                "remove that folder to start over."
            )
        if (basis := metadata.get("basis", "")) != self.task.basis:
            raise CheckpointError(
                f"{path} belongs to a run {basis or 'of an earlier version'}; this one is "
                f"{self.task.basis}. Choose another `out`, or remove that folder to start over."
            )
        kept = {name.split("/")[0] for name in tensors}
        if missing := self.task.modules.keys() - kept:
            raise CheckpointError(
                f"{path}: holds no {sorted(missing)[0]}; it was written by another version of this "
                "program. Remove it to start over."
            )
        self.task.check(tensors)
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
        self.random = tensors["random"]
        self.report(f"going on from step {self.step} of {path}")


@contextlib.contextmanager
def _stops(report: Tell) -> Iterator[list[int]]:
    """Ctrl-C is noted in the list, so that the step is finished and kept; a second ends at once.

    Where something else sees to Ctrl-C, or several processes train together, that is left alone.
    """
    noted: list[int] = []
    alone = threading.current_thread() is threading.main_thread()
    if (
        not alone
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        or (torch.distributed.is_available() and torch.distributed.is_initialized())
    ):
        yield noted
        return

    def note(number: int, _: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)
        report("stopping after this step; Ctrl-C again stops at once")

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def draw(history: Sequence[Mapping[str, float]], out: Path, shares: Collection[str] = ()) -> None:
    """Learning curves as a picture; the last record as an event, where TensorBoard is installed.

    Args:
        shares: names of what lies between 0 and 1, beside the usual ones.
    """
    from speakerguard.evaluation.plots import SHARES, plot_history

    plot_history(history, out / "curves.png", SHARES | set(shares))
    # Without this mark TensorBoard imports all of TensorFlow to write its files.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    last = history[-1]
    with SummaryWriter(str(out), filename_suffix=f".{last['step']:.0f}") as writer:
        for name, value in last.items():
            writer.add_scalar(name, value, int(last["step"]))


def _same_run(written: dict[str, Any], config: RunConfig) -> bool:
    """Whether a state was written under ``config``; keys it does not know have their defaults."""
    try:
        kept = type(config).model_validate(written)
    except ValidationError:
        return False
    free = {name: getattr(config, name) for name in config.of_the_machine}
    return kept.model_copy(update=free) == config


def _means(records: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each value over the records that hold it."""
    names = dict.fromkeys(name for record in records for name in record)
    return {
        name: sum(found) / len(found)
        for name in names
        if (found := [record[name] for record in records if name in record])
    }
