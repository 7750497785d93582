"""Training losses. Embeddings are L2-normalised, (B, D); labels int64 (B,), -1 where unknown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speakerguard.training.config import LossConfig


class MarginSoftmax(nn.Module):
    """Additive angular margin softmax (Deng et al. 2019, arXiv 1801.07698); margin 0 is plain.

    The margin is set from outside, so that it can grow during training.
    """

    def __init__(
        self, embedding: int, classes: int, scale: float, prototypes: Tensor | None = None
    ) -> None:
        """Start from ``prototypes``, unit vectors (classes, embedding), or at random."""
        super().__init__()
        self.scale = scale
        self.margin = 0.0
        start = torch.randn(classes, embedding)
        if prototypes is not None:  # as long as a random row
            start = prototypes * embedding**0.5
        self.weight = nn.Parameter(start * 0.1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the rows whose label is known; 0 if there are none."""
        known = labels >= 0
        if not known.any():
            return embeddings.sum() * 0
        labels = labels[known]
        cosine = embeddings[known] @ nn.functional.normalize(self.weight, dim=1).T
        target = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        shifted = torch.cos(torch.acos(target) + self.margin)
        logits = cosine.scatter(1, labels[:, None], shifted)
        return nn.functional.cross_entropy(self.scale * logits, labels)


def triplet(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Triplet loss on cosines with the hardest negative in the batch (arXiv 1705.02304, eq. 9).

    Every pair of one speaker is an anchor and positive; its negative is the most similar clip of
    another speaker. Rows without a label take no part.
    """
    cosine = embeddings @ embeddings.T
    known = (labels >= 0)[:, None] & (labels >= 0)
    same = (labels[:, None] == labels) & known
    different = (labels[:, None] != labels) & known
    hardest = cosine.masked_fill(~different, -torch.inf).amax(dim=1, keepdim=True)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    violation = nn.functional.relu(hardest - cosine + margin)[positive]
    return violation.mean() if len(violation) else embeddings.sum() * 0


def distil_cosine(embeddings: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine between the embedding and the teacher's, averaged; both (B, D)."""
    return 1 - (embeddings * teacher).sum(dim=1).mean()


def distil_similarity(embeddings: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two cosine matrices (Tung and Mori 2019, 1907.09682)."""
    return nn.functional.mse_loss(embeddings @ embeddings.T, teacher @ teacher.T)


def impersonation(attacks: Tensor, targets: Tensor, limit: float) -> Tensor:
    """Mean excess over ``limit`` of the cosine of each attack to whom it imitates; both (A, D).

    0 where every attack is below. The targets get no gradient: it is the attack that must move.
    """
    cosine = (attacks * targets.detach()).sum(dim=1)
    return nn.functional.relu(cosine - limit).mean() if len(cosine) else attacks.sum()


def weighted(
    config: LossConfig,
    embeddings: Tensor,
    labels: Tensor,
    teacher: Tensor,
    softmax: MarginSoftmax,
) -> dict[str, Tensor]:
    """The weighted parts of the loss that the configuration asks for."""
    parts = {}
    if config.softmax:
        parts["softmax"] = config.softmax * softmax(embeddings, labels)
    if config.triplet:
        parts["triplet"] = config.triplet * triplet(embeddings, labels, config.triplet_margin)
    if config.distil_cosine:
        parts["distil_cosine"] = config.distil_cosine * distil_cosine(embeddings, teacher)
    if config.distil_similarity:
        parts["distil_similarity"] = config.distil_similarity * distil_similarity(
            embeddings, teacher
        )
    return parts
