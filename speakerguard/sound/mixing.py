"""From the channels of a recording to one: offsets are taken away, then they are averaged.

Two kinds of recording would lose their voice that way and are noticed: channels that cancel, of
microphones wired the wrong way round, of which the loudest is taken; and channels that differ,
as of a call with a speaker on each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

OFFSET = 0.1  # of what varies (its RMS): an offset below that, a hundredth in power, is let alone
LEAST_OFFSET = 1e-4  # of full scale, three steps of 16 bits; smaller ones are let alone as well
CANCEL = 0.25  # power of the mean against that of unrelated channels' mean; opposed ones come to 0
ALIKE = 0.5  # correlation of loudness, below which channels do not carry the same
AUDIBLE = 0.1  # mean loudness against the loudest channel, below which one does not count
_FRAME_SECONDS = 0.05  # of which one loudness is taken
_LEAST_FRAMES = 20


class Mixer:
    """Takes a recording chunk by chunk.

    Offset and channel are decided on chunks of a second or more (or on the first), and kept on
    shorter ones: a last chunk of a few samples has a mean that says nothing. So recordings of up
    to a chunk are treated as a whole, and longer ones follow an offset that drifts.

    Attributes:
        swing: largest absolute sample so far, offset taken away.
        picked: the channel, from 0, that was taken last since the channels cancel; or None.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self.swing = 0.0
        self.picked: int | None = None
        self.cancelled = False
        self._offset: Samples | None = None
        self._frames = 0
        self._sum = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def mono(self, chunk: Samples) -> Samples:
        """One channel (n,) of a chunk (n, channels); untouched where there is nothing to do."""
        if not len(chunk):
            return chunk[:, 0]
        decide = self._offset is None or len(chunk) >= self.rate
        mean = chunk.mean(axis=0, dtype=np.float64)
        reach = np.maximum(chunk.max(axis=0) - mean, mean - chunk.min(axis=0))
        self.swing = max(self.swing, float(reach.max()))
        if decide:
            power = np.einsum("ij,ij->j", chunk, chunk, dtype=np.float64) / len(chunk)
            varying = np.sqrt(np.maximum(power - mean**2, 0))
            off = np.abs(mean) > np.maximum(OFFSET * varying, LEAST_OFFSET)
            off &= varying.max() > 1e-6  # or there is nothing but offset
            self._offset = np.where(off, mean, 0).astype(np.float32)
        if self._offset is not None and self._offset.any():
            chunk = chunk - self._offset
        if chunk.shape[1] == 1:
            return chunk[:, 0]
        self._compare(chunk)
        mixed: Samples = chunk.mean(axis=1, dtype=np.float32)
        if decide:
            self._pick(chunk, mixed)
        return mixed if self.picked is None else chunk[:, self.picked]

    def _pick(self, chunk: Samples, mixed: Samples) -> None:
        power = np.einsum("ij,ij->j", chunk, chunk, dtype=np.float64)
        left = float(np.einsum("i,i->", mixed, mixed, dtype=np.float64)) * chunk.shape[1] ** 2
        if left >= CANCEL * power.sum():
            self.picked = None
        elif self.picked is None or 2 * power[self.picked] < power.max():
            self.picked = int(power.argmax())
        self.cancelled = self.cancelled or self.picked is not None

    def _compare(self, chunk: Samples) -> None:
        length = max(1, int(_FRAME_SECONDS * self.rate))
        count = len(chunk) // length
        frames = np.abs(chunk[: count * length]).reshape(count, length, chunk.shape[1])
        loudness = frames.mean(axis=1, dtype=np.float64)
        self._frames += count
        self._sum += loudness.sum(axis=0)
        self._products += loudness.T @ loudness

    @property
    def differ(self) -> bool:
        """Whether two channels that can be heard rise and fall in loudness each by itself."""
        if self._frames < _LEAST_FRAMES or self.cancelled:
            return False
        mean = self._sum / self._frames
        audible = mean > AUDIBLE * mean.max()
        if audible.sum() < 2:
            return False
        together = (self._products / self._frames - np.outer(mean, mean))[np.ix_(audible, audible)]
        alone = np.sqrt(np.maximum(np.diag(together), 1e-30))
        return bool((together / np.outer(alone, alone)).min() < ALIKE)
