"""Verification while somebody still speaks: provisional answers, then the same one as offline.

What has arrived is judged again whenever it has grown by a second and by a tenth, so all the
provisional answers together cost a fixed multiple of one. The final answer is that of
:meth:`speakerguard.verification.verifier.Verifier.verify` on the whole, to the bit. Of what came,
at most :data:`LONGEST` seconds are kept, and those of one channel at 16 kHz.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from speakerguard.decoding.containers import unknown
from speakerguard.errors import AudioError, EmptyAudioError, NotAudioError, UsageError
from speakerguard.sound.audio import (
    MAX_CHANNELS,
    SAMPLE_RATE,
    Reading,
    Recording,
    Waveform,
    block_frames,
    check_rate,
)
from speakerguard.sound.sources import as_samples
from speakerguard.sound.speech import MAX_VALUES, load_speech

if TYPE_CHECKING:
    from speakerguard.verification.answers import Verification
    from speakerguard.verification.verifier import Verifier

GROWTH = 1.1  # by how much a recording is longer when it is judged again
LONGEST = 600.0  # seconds that are kept; who has not spoken enough by then will not
_NO_PCM = "only 16-bit PCM can be followed. Record with S16_LE, or verify the file itself."
_ENCODED = (  # what other formats start with; RF64, RIFX and riff (W64) are kinds of WAV
    *(b"RF64", b"RIFX", b"riff", b"FORM", b".snd", b"fLaC", b"OggS"),
    *(b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"),
    *(b"\x1a\x45\xdf\xa3", b"#!AMR", b"NIST_1A", b"caff"),
)
MOST_HEADER = 16 << 20  # bytes of a WAV header, with pictures and texts, before its samples
_BLOCK_SECONDS = 0.1  # read from a pipe or microphone at a time

Samples = npt.NDArray[Any]
_Part = tuple[Waveform, Recording]  # a block, and what was known when it was taken


class Stream:
    """One recording that is still growing, and the claim it is judged against.

    Args:
        rate: Hz, of the samples to come.
        every: least seconds between provisional answers.
        channel: the only one to listen to, from 1; None averages all.

    Raises:
        NotAudioError: such a rate carries no speech.
        ProfileError: nobody of that name, or enrolled with other weights.
    """

    def __init__(
        self,
        verifier: Verifier,
        name: str,
        rate: int = SAMPLE_RATE,
        operating_point: str | float | None = None,
        every: float = 1.0,
        channel: int | None = None,
    ) -> None:
        check_rate("<stream>", rate)
        self.verifier, self.name, self.rate, self.point = verifier, name, rate, operating_point
        self.every, self.channel = every, channel
        self.seconds = 0.0
        self._values = 0
        self._like: tuple[str, tuple[int, ...]] | None = None
        self._heard: Recording | None = None
        self._parts: list[_Part] = []  # settled, at 16 kHz
        self._waiting: list[Samples] = []  # less than a block, as it came
        self._next = every
        self._finished = False
        verifier.profile(name)  # refuses an unknown name before anybody speaks

    @property
    def full(self) -> bool:
        """Whether more samples would be left aside."""
        return self.seconds >= LONGEST or self._values > MAX_VALUES

    def add(self, samples: Samples) -> Verification | None:
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

    def so_far(self) -> Verification:
        """A provisional answer to what was added.

        Raises:
            AudioError: it cannot be judged yet.
        """
        heard = self._heard.fork() if self._heard else None
        return self._judge([*self._parts, *self._rest(heard)])

    def finish(self) -> Verification:
        """The answer to all that was added; equal to the offline one. Nothing more can be added.

        Raises:
            AudioError: it cannot be judged.
        """
        if not self._finished:
            self._finished = True
            self._parts += self._rest(self._heard)
            self._waiting = []
        return self._judge(self._parts)

    def _judge(self, parts: list[_Part]) -> Verification:
        return self.verifier.verify(self.name, load_speech(_Replay(parts)), self.point)

    def _settle(self) -> None:
        """Take the blocks that are complete, each as open_recording would."""
        first = self._waiting[0]
        step = block_frames(self.rate, first.shape[1] if first.ndim > 1 else 1)
        if sum(map(len, self._waiting)) < step:
            return
        whole = np.concatenate(self._waiting)
        settled = len(whole) // step * step
        samples, _ = as_samples(whole[:settled], self.rate)
        self._heard = self._heard or self._open(samples.shape[1])
        for start in range(0, settled, step):
            block = self._heard.take(samples[start : start + step])
            self._parts.append((block, self._heard.fork()))
        self._waiting = [whole[settled:].copy()]

    def _rest(self, heard: Recording | None) -> list[_Part]:
        """What is not settled, as if the stream ended here."""
        parts = []
        whole = np.concatenate(self._waiting) if self._waiting else np.zeros(0, np.float32)
        if len(whole):
            samples, _ = as_samples(whole, self.rate)
            heard = heard or self._open(samples.shape[1])
            parts.append((heard.take(samples), heard.fork()))
        heard = heard or self._open(1)
        parts.append((heard.end(), heard))
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


def read_pipe(
    pipe: BinaryIO, rate: int = SAMPLE_RATE, raw: Reading | None = None
) -> tuple[int, Iterator[Samples]]:
    """Rate and blocks, int16 (n, channels), of 16-bit PCM that comes through a pipe.

    A WAV header, such as ``arecord`` writes, states rate and channels, and where the samples end;
    a stream may end earlier. Without one they are taken as mono, little-endian, of ``rate``; or as
    what ``raw`` says that they are, and given as float32.

    Raises:
        NotAudioError: a WAV header of anything but 16-bit PCM, or another format's; or a header
            of more than :data:`MOST_HEADER` bytes.
    """
    if raw is not None and raw.raw is not None:
        return raw.shape[0], _raw_blocks(pipe, raw)
    head = _exactly(pipe, 12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        rate, channels, length = _wav_header(pipe)
        return rate, _blocks(pipe, b"", rate, channels, length)
    if head.startswith(_ENCODED) or head[4:8] == b"ftyp":
        raise NotAudioError(f"<pipe>: {_NO_PCM}")
    return rate, _blocks(pipe, head, rate, 1, None)


def read_microphone(rate: int = SAMPLE_RATE) -> Iterator[Samples]:
    """Blocks, int16 (n, 1), of the default microphone, without end.

    Raises:
        UsageError: the package sounddevice is not installed, or there is no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        missing = "pip install 'speakerguard[microphone]'"
        if isinstance(error, OSError):  # the package is there, the library it calls is not
            missing = "install PortAudio (on Debian `apt install libportaudio2`)"
        raise UsageError(
            f"the microphone cannot be read ({error}): {missing}, or "
            "pipe it in: arecord -f S16_LE -r 16000 | speakerguard verify NAME - --stream"
        ) from None
    count = int(_BLOCK_SECONDS * rate)
    try:
        with sounddevice.InputStream(rate, count, channels=1, dtype="int16") as microphone:
            while True:
                yield microphone.read(count)[0]
    except sounddevice.PortAudioError as error:
        raise UsageError(f"no microphone can be read ({error}). Check that one is on.") from None


def _wav_header(pipe: BinaryIO) -> tuple[int, int, int | None]:
    """Rate, channels, and bytes of samples where known; the pipe stands at the first sample."""
    about, left = None, MOST_HEADER
    while len(chunk := _exactly(pipe, 8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            break
        left -= length
        if left < 0:
            raise NotAudioError(
                f"<pipe>: no samples in the first {MOST_HEADER >> 20} MiB. Record it again."
            )
        body = _exactly(pipe, min(length, 64))
        _skip(pipe, length + length % 2 - len(body))
        if chunk[:4] == b"fmt " and len(body) >= 16:
            coding, channels = (int.from_bytes(body[i : i + 2], "little") for i in (0, 2))
            about = int.from_bytes(body[4:8], "little"), channels
            bits = int.from_bytes(body[14:16], "little")
            if coding not in (1, 0xFFFE) or bits != 16 or not 1 <= channels <= MAX_CHANNELS:
                raise NotAudioError(f"<pipe>: {_NO_PCM}")
            check_rate("<pipe>", about[0])
    if about is None:
        raise NotAudioError("<pipe>: a WAV header without a format. Record it again.")
    return *about, None if length == 0 or unknown(length) else length


def _blocks(
    pipe: BinaryIO, head: bytes, rate: int, channels: int, length: int | None
) -> Iterator[Samples]:
    """All samples, or ``length`` bytes of them, of which ``head`` was read before."""
    frame = 2 * channels
    block = max(1, int(_BLOCK_SECONDS * rate)) * frame
    left = sys.maxsize if length is None else length
    while data := head + _exactly(pipe, min(block, left) - len(head)):
        head = b""
        left -= len(data)
        whole = len(data) // frame * frame  # a last, partial frame is no sample
        yield np.frombuffer(data[:whole], "<i2").reshape(-1, channels)


def _raw_blocks(pipe: BinaryIO, raw: Reading) -> Iterator[Samples]:
    rate, _ = raw.shape
    block = max(1, int(_BLOCK_SECONDS * rate)) * raw.width
    while data := _exactly(pipe, block):
        with raw.raw_file(io.BytesIO(data)) as sound:
            yield sound.read(len(data) // raw.width, dtype="float32", always_2d=True)


def _skip(pipe: BinaryIO, count: int) -> None:
    while count > 0 and (gone := len(pipe.read(min(count, 1 << 16)))):
        count -= gone


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    """``count`` bytes, or fewer at the end."""
    parts = b""
    while len(parts) < count and (more := pipe.read(count - len(parts))):
        parts += more
    return parts
