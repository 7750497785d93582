"""The verifier's score in torch, so that attacks and losses have its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speakerguard.cohort import LEAST_SPREAD, NEAREST
from speakerguard.scoring import Scoring


class Scores(nn.Module):
    """What :meth:`speakerguard.scoring.Scoring.compare` computes, differentiable on both sides.

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
        sides = (self._usual(enrol), self._usual(probe))
        return torch.stack([(cosine - mean) / spread for mean, spread in sides]).mean(dim=0)

    def needed(self, enrol: Tensor, probe: Tensor, threshold: float) -> Tensor:
        """Cosines (B,) with which these pairs would score ``threshold``, strangers being as far.

        It has a gradient as well: a probe that resembles strangers less needs less of its target.
        """
        if self.strangers is None:
            return torch.full_like(enrol[:, 0], threshold)
        (mean, spread), (other_mean, other_spread) = self._usual(enrol), self._usual(probe)
        steepness = (1 / spread + 1 / other_spread) / 2
        return (threshold + (mean / spread + other_mean / other_spread) / 2) / steepness

    @torch.no_grad()
    def per_cosine(self, profile: Tensor) -> float:
        """By how much scores against a profile (D,) rise with the cosine, roughly."""
        return 1.0 if self.strangers is None else float(1 / self._usual(profile[None])[1])

    def _usual(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B,) of the cosines with the nearest strangers."""
        assert self.strangers is not None
        cosines = embeddings @ self.strangers.to(embeddings).T
        nearest = cosines.topk(min(NEAREST, cosines.shape[1]), dim=1).values
        spread = nearest.var(dim=1, correction=0).clamp(min=LEAST_SPREAD**2).sqrt()
        return nearest.mean(dim=1), spread
