"""The verifier as part of a loss: its real front end and network, frozen, with gradient."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from advgan.mel import to_guard
from speakerguard import checkpoint
from speakerguard.calibration import CalibrationFile
from speakerguard.errors import CheckpointError


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
        calibration = CalibrationFile.load(folder / checkpoint.CALIBRATION_FILE)
        if calibration.model != self.fingerprint:
            raise CheckpointError(
                f"{folder}: its thresholds belong to weights {calibration.model}, these are "
                f"{self.fingerprint}: calibrate again."
            )
        self.threshold = calibration.point(point).threshold

    def train(self, mode: bool = True) -> GuardLoss:
        """Stays in evaluation mode, whatever contains it."""
        return super().train(False)

    def embed(self, waveform: Tensor, rate: int) -> Tensor:
        """Unit embeddings (B, D) of waveforms (B, n) at 16 or 22.05 kHz, with gradient."""
        heard = waveform if rate == 16_000 else to_guard(waveform)
        embeddings: Tensor = self.encoder(heard)
        return embeddings

    def forward(self, scores: Tensor, margin: float) -> Tensor:
        """Mean shortfall of scores (B,) from the threshold plus ``margin``; 0 where all pass."""
        return torch.relu(self.threshold + margin - scores).mean()
