"""The verifier as part of a loss: its real front end and network, frozen, with gradient."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from advgan.networks.mel import to_guard
from advgan.victim.scores import Scores
from speakerguard.network import checkpoint
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.verification.scoring import Scoring


class GuardLoss(nn.Module):
    """How far conversions are from getting past a guard.

    The torch network is loaded itself, whatever engine verifies elsewhere, since the loss needs
    its gradient. Threshold and weights are those that lie in the checkpoint when a run starts.

    Args:
        model: a guard's name or folder; peers such as CAM++ stay out, they judge.
        point: operating point to get past; None for the guard's default.

    Raises:
        CheckpointError: no such guard, no thresholds, or thresholds of other weights.
    """

    def __init__(self, model: str | os.PathLike[str], point: str | None = None) -> None:
        super().__init__()
        folder = checkpoint.resolve(model)
        self.encoder, self.fingerprint = checkpoint.load(folder)
        self.encoder.requires_grad_(False)
        scoring = Scoring(folder, self.fingerprint)
        self.threshold = scoring.calibration.point(point).threshold
        self.unit = scoring.unit
        self.scores = Scores(scoring)

    def train(self, mode: bool = True) -> GuardLoss:
        """Stays in evaluation mode, whatever contains it."""
        return super().train(False)

    def embed(self, waveform: Tensor, rate: int) -> Tensor:
        """Unit embeddings (B, D) of waveforms (B, n) at 16 or 22.05 kHz, with gradient."""
        narrow = waveform if rate == SAMPLE_RATE else to_guard(waveform)
        embeddings: Tensor = self.encoder(narrow)
        return embeddings

    def forward(self, conversions: Tensor, voices: Tensor, margin: float) -> Tensor:
        """Mean lack of score, ``margin`` above the least that is accepted; 0 where all have it.

        Args:
            conversions, voices: unit embeddings (B, D) of these, and of whom they claim to be.
            margin: a cosine.
        """
        return torch.relu(self.threshold + margin - self.scores(voices, conversions)).mean()
