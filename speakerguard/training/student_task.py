"""A guard that learns to hear as its teacher does, in every frame; see
`speakerguard.training.lessons`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speakerguard.errors import CheckpointError
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder, TdnnHead
from speakerguard.progress import Tell
from speakerguard.training import losses
from speakerguard.training.config import LessonConfig
from speakerguard.training.encoder_task import EncoderTask
from speakerguard.training.lessons import Lesson, Lessons
from speakerguard.training.loop import descend
from speakerguard.training.optimisers import optimisers
from speakerguard.training.teacher import HINTS, VALUES


class Student(nn.Module):
    """An encoder, and two layers that say what the teacher's frames and hints are.

    Front-end output (B, frames, 64) to L2-normalised embeddings (B, D), frames (B, T, 512) as they
    are pooled and hints (B, T, 768) as the trunk gives them. The two layers are for training alone:
    they share all but themselves with the embedding. They start at zero, so that they learn first.
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        assert isinstance(encoder.head, TdnnHead)
        self.trunk, self.head = encoder.trunk, encoder.head
        self.say = nn.ModuleDict({
            "frames": nn.Linear(2 * encoder.config.tdnn_channels, VALUES),
            "hints": nn.Linear(encoder.trunk.channels, HINTS),
        })  # fmt: skip
        for parameter in self.say.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames, _ = self.trunk(features)
        pooled = self.head.hear(frames)
        embeddings = nn.functional.normalize(self.head.pool(pooled).float(), dim=1)
        said = self.say["frames"](pooled.transpose(1, 2)).float()
        hinted = self.say["hints"](frames.transpose(1, 2)).float()
        return embeddings, said, hinted


class StudentTask(EncoderTask):
    """The guard, from what its teacher says of the same crops."""

    def __init__(self, config: LessonConfig, report: Tell = print) -> None:
        self.config = config
        super().__init__(config, lambda rank: Lessons(config, rank, report))
        self.lessons = self.dataset
        self.start_from(self._encoder())
        self.student = Student(self.encoder).to(self.device)
        self.modules = {
            "encoder": self.encoder,
            "average": self.average,
            "say": self.student.say,
        }
        self.parameters = [*self.encoder.parameters(), *self.student.say.parameters()]
        self.optimisers = optimisers(self.encoder, config, more=self.student.say.parameters())
        self.parallel: nn.Module = self.student
        if self.world > 1:
            self.parallel = nn.parallel.DistributedDataParallel(self.student)

    def _encoder(self) -> SpeakerEncoder:
        if not self.config.init:
            return SpeakerEncoder(self.config.model)
        start, _ = checkpoint.load(checkpoint.resolve(self.config.init))
        if start.config != self.config.model:
            raise CheckpointError(
                f"{self.config.init}: its network is {start.config}, the configuration asks for "
                f"{self.config.model}. Give the same model, or no init."
            )
        return start

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        return self.learn_from(next(self.stream))

    def learn_from(self, lesson: Lesson) -> dict[str, float]:
        """One step from a lesson; returns its losses."""
        config, weights = self.config, self.config.lessons
        waveforms, teacher, *layers = (part.to(self.device) for part in lesson)
        self.student.train()
        with torch.no_grad():
            features = self.encoder.front_end(waveforms)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            embeddings, *said = self.parallel(features)
        frames, hints = map(nn.functional.mse_loss, said, layers)
        parts = {
            "frames": weights.frames * frames,
            "hints": weights.hints * hints,
            "cosine": weights.cosine * losses.distil_cosine(embeddings, teacher),
            "similarity": weights.similarity * losses.distil_similarity(embeddings, teacher),
        }
        total = torch.stack(list(parts.values())).sum()
        descend(total, self.optimisers.values(), self.parameters, config.clip)
        return {"loss": total.item(), **{name: part.item() for name, part in parts.items()}}
