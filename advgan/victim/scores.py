"""The verifier's score in torch, so that attacks and losses have its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speakerguard.verification.cohort import NEAREST
from speakerguard.verification.scoring import Scoring


class Scores(nn.Module):
    """What :meth:`speakerguard.verification.scoring.Scoring.compare` computes, differentiable on
    both sides.

    A test keeps the two equal.

    Args:
        scoring: of the verifier; the strangers that it compares with become a buffer.
    """

    strangers: Tensor | None

    def __init__(self, scoring: Scoring) -> None:
        super().__init__()
        cohort = scoring.cohort
        self.register_buffer(
            "strangers", torch.from_numpy(cohort.embeddings) if cohort else None, persistent=False
        )

    def forward(self, enrol: Tensor, probe: Tensor) -> Tensor:
        """Scores (B,) of the trials between rows of unit embeddings (B, D)."""
        cosine = (enrol * probe).sum(dim=1)
        if self.strangers is None:
            return cosine
        return cosine - (self._usual(enrol) + self._usual(probe)) / 2

    def _usual(self, embeddings: Tensor) -> Tensor:
        """Mean (B,) of the cosines with the nearest strangers."""
        assert self.strangers is not None
        cosines = embeddings @ self.strangers.to(embeddings).T
        return cosines.topk(min(NEAREST, cosines.shape[1]), dim=1).values.mean(dim=1)
