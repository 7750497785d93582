"""Verification while somebody still speaks: provisional answers, then the same one as offline.

What has arrived is judged again whenever it has grown by a second and by a tenth, so all the
provisional answers together cost a fixed multiple of one. The final answer is that of
:meth:`speakerguard.verification.verifier.Verifier.verify` on the whole, to the bit. Of what came,
at most :data:`LONGEST` seconds are kept, and those of one channel at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from speakerguard.errors import AudioError, EmptyAudioError, UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Recording, Waveform, block_frames, check_rate
from speakerguard.sound.pipe import Samples
from speakerguard.sound.sources import as_samples
from speakerguard.sound.speech import MAX_VALUES, Speech, load_speech

GROWTH = 1.1  # by how much a recording is longer when it is judged again
LONGEST = 600.0  # seconds that are kept; who has not spoken enough by then will not
Answer = TypeVar("Answer")
_Part = tuple[Waveform, Recording]  # a block, and what was known when it was taken


class Stream(Generic[Answer]):
    """One recording that is still growing, and the question that is asked about it.

    Args:
        ask: gives the answer to the speech so far, such as
            :meth:`speakerguard.verification.verifier.Verifier.verify` for a name.
        rate: Hz, of the samples to come.
        every: least seconds between provisional answers.
        channel: the only one to listen to, from 1; None averages all.

    Raises:
        NotAudioError: such a rate carries no speech.
    """

    def __init__(
        self,
        ask: Callable[[Speech], Answer],
        rate: int = SAMPLE_RATE,
        every: float = 1.0,
        channel: int | None = None,
    ) -> None:
        check_rate("<stream>", rate)
        self.ask, self.rate, self.every, self.channel = ask, rate, every, channel
        self.seconds = 0.0
        self._values = 0
        self._like: tuple[str, tuple[int, ...]] | None = None
        self._recording: Recording | None = None
        self._parts: list[_Part] = []  # settled, at 16 kHz
        self._waiting: list[Samples] = []  # less than a block, as it came
        self._next = every
        self._finished = False

    @property
    def full(self) -> bool:
        """Whether more samples would be left aside."""
        return self.seconds >= LONGEST or self._values > MAX_VALUES

    def add(self, samples: Samples) -> Answer | None:
        """Take samples, (n,) or (n, channels), floats in [-1, 1] or integers of full range.

        Returns:
            A provisional answer, where it was time for one and there was speech enough.

        Raises:
            AudioError: samples that are no number, or far beyond full scale.
            UsageError: they are no array, or of another type or number of channels than before,
                or the stream is finished.
        """
        if not isinstance(samples, np.ndarray):
            raise UsageError(f"a stream takes arrays of samples, not {type(samples).__name__}.")
        if self._finished:
            raise UsageError("the stream is finished: start another.")
        if self.full or not len(samples):
            return None
        self._like = self._like or _kind(samples)
        if self._like != _kind(samples):
            raise UsageError(
                f"a stream of {self._like} cannot go on with {_kind(samples)} (type and "
                "channels): give all samples alike."
            )
        self._waiting.append(np.array(samples))
        self.seconds += len(samples) / self.rate
        self._values += samples.size
        self._settle()
        if self.seconds < self._next:
            return None
        self._next = max(self.seconds + self.every, self.seconds * GROWTH)
        try:
            return self.so_far()
        except AudioError:  # not enough speech yet
            return None

    def so_far(self) -> Answer:
        """A provisional answer to what was added.

        Raises:
            AudioError: it cannot be judged yet.
        """
        copy = self._recording.fork() if self._recording else None
        return self._judge([*self._parts, *self._rest(copy)])

    def finish(self) -> Answer:
        """The answer to all that was added; equal to the offline one. Nothing more can be added.

        Raises:
            AudioError: it cannot be judged.
        """
        if not self._finished:
            self._finished = True
            self._parts += self._rest(self._recording)
            self._waiting = []
        return self._judge(self._parts)

    def _judge(self, parts: list[_Part]) -> Answer:
        return self.ask(load_speech(_Replay(parts)))

    def _settle(self) -> None:
        """Take the blocks that are complete, each as open_recording would."""
        first = self._waiting[0]
        step = block_frames(self.rate, first.shape[1] if first.ndim > 1 else 1)
        if sum(map(len, self._waiting)) < step:
            return
        whole = np.concatenate(self._waiting)
        settled = len(whole) // step * step
        samples, _ = as_samples(whole[:settled], self.rate)
        self._recording = self._recording or self._open(samples.shape[1])
        for start in range(0, settled, step):
            block = self._recording.take(samples[start : start + step])
            self._parts.append((block, self._recording.fork()))
        self._waiting = [whole[settled:].copy()]

    def _rest(self, recording: Recording | None) -> list[_Part]:
        """What is not settled, as if the stream ended here."""
        parts = []
        whole = np.concatenate(self._waiting) if self._waiting else np.zeros(0, np.float32)
        if len(whole):
            samples, _ = as_samples(whole, self.rate)
            recording = recording or self._open(samples.shape[1])
            parts.append((recording.take(samples), recording.fork()))
        recording = recording or self._open(1)
        parts.append((recording.end(), recording))
        return parts

    def _open(self, channels: int) -> Recording:
        only = None if self.channel is None else self.channel - 1
        return Recording("<array>", self.rate, channels, only)


class _Replay(Recording):
    """What was kept of a stream, read once more; it knows after each block what was known then."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self.__dict__ |= vars(parts[0][1])

    def blocks(self) -> Iterator[Waveform]:
        for block, known in self._parts:
            self.__dict__ |= vars(known)
            yield block
        if not any(len(block) for block, _ in self._parts):
            raise EmptyAudioError(f"{self.name}: holds no samples. Record it again.")


def _kind(samples: Samples) -> tuple[str, tuple[int, ...]]:
    return str(samples.dtype), samples.shape[1:]
