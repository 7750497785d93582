"""Pictures of conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from advgan.networks.mel import STANDARD, MelSpectrogram, widened
from speakerguard.evaluation.plots import save
from speakerguard.sound.audio import Waveform


def plot_conversion(source: Waveform, target: Waveform, converted: Waveform, path: Path) -> None:
    """Mel spectrograms of source, target and conversion, 16 kHz (n,), one above another.

    Raises:
        UsageError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 1)
    mel = MelSpectrogram()
    titles = ("Source: what is said", "Target: whose voice", "Converted")
    for axis, title, waveform in zip(axes, titles, (source, target, converted), strict=True):
        with torch.inference_mode():
            bands = mel(torch.from_numpy(widened(waveform))[None])[0].numpy()
        seconds = bands.shape[1] * STANDARD.hop / STANDARD.sample_rate
        image = axis.imshow(
            np.maximum(bands, STANDARD.silence), origin="lower", aspect="auto", cmap="magma",
            extent=(0, seconds, 0, STANDARD.bands), vmin=STANDARD.silence, vmax=0.5,
        )  # fmt: skip
        axis.set(title=title, ylabel="Mel band", xlabel="Time (s)")
    figure.colorbar(image, ax=axes, label="log10 magnitude")
    save(figure, path, dpi=110)
