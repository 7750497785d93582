"""What every training of a guard does, whatever it learns from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder
from speakerguard.processes import torch_threads
from speakerguard.training.config import GuardRunConfig
from speakerguard.training.data import default_workers
from speakerguard.training.devset import DevSet, chosen
from speakerguard.training.loop import Task
from speakerguard.workers import begin_worker


class EncoderTask(Task):
    """A training of a guard: processes, batches made beside, and trials to choose weights by."""

    measures_shares = True
    encoder: SpeakerEncoder
    average: SpeakerEncoder

    def __init__(self, config: GuardRunConfig, batches: Callable[[int], Dataset[Any]]) -> None:
        """``batches`` gives those of a process, by its rank; the first prepares speech."""
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.leads = self.rank == 0
        self.keeps_last = config.choose_by == "last"
        cuda = torch.cuda.is_available()
        self.device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.world > 1:
            # the others wait while the first prepares speech and asks the teacher
            patience = timedelta(days=1)
            torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=patience)
        self.settings = config
        with torch_threads(default_workers()):  # the others wait for the first, which prepares
            self.dev = DevSet(config.data.dev, config.data.dev_trials) if self.leads else None
            if not self.leads:
                torch.distributed.barrier()
            self.dataset = batches(self.rank)
        if self.leads and self.world > 1:
            torch.distributed.barrier()
        torch.manual_seed(config.seed)  # after the teacher, which would draw from it

    def start_from(self, encoder: SpeakerEncoder) -> None:
        """Train ``encoder``, and average it over time."""
        self.encoder = encoder.to(self.device)
        self.encoder = self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = SpeakerEncoder(encoder.config).to(self.device).eval()
        self.average.load_state_dict(self.encoder.state_dict())
        self.averages = {"average": "encoder"}

    def begin(self, step: int) -> None:
        """See :meth:`.Task.begin`."""
        workers = self.settings.workers
        loader = DataLoader(
            self.dataset,
            batch_size=None,
            sampler=range(step, self.settings.steps),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            worker_init_fn=begin_worker,
        )
        self.stream = iter(loader)

    def evaluate(self) -> dict[str, float]:
        """See :meth:`.Task.evaluate`; equal error rates in [0, 1]."""
        assert self.dev is not None
        return self.dev.figures(self.average)

    def decisive(self, measures: Mapping[str, float]) -> float:
        """See :meth:`.Task.decisive`."""
        return chosen(measures, self.settings.choose_by)

    def shown(self, measures: Mapping[str, float], best: float) -> str:
        """See :meth:`.Task.shown`."""
        rate = 100 * self.decisive(measures)
        return f"EER on dev {rate:.2f} % (best {100 * best:.2f} %), weights"

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`.Task.save`."""
        checkpoint.save(self.average, self.settings.out / checkpoint.MODEL_FILE, half=True)

    def end(self) -> None:
        """See :meth:`.Task.end`."""
        if self.world > 1:
            torch.distributed.destroy_process_group()
