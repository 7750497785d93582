"""From frames of a waveform to the energy in bands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dft_basis(window: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Windowed cosines, then sines, of all bins of an FFT: float32 (2 * bins, n).

    Args:
        window: (n,), n at most ``size``.
        size: of the FFT, which has size // 2 + 1 bins.
    """
    angle = 2 * np.pi / size * (np.arange(size // 2 + 1)[:, None] * np.arange(len(window)) % size)
    return (np.concatenate([np.cos(angle), np.sin(angle)]) * window).astype(np.float32)
