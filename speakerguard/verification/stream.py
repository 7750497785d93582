"""Verification while somebody still speaks: provisional answers, then the same one as offline.

What has arrived is judged again whenever it has grown by a second and by a tenth, so all the
provisional answers together cost a fixed multiple of one. The final answer is that of
:meth:`speakerguard.verification.verifier.Verifier.verify` on the whole, to the bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from speakerguard.errors import AudioError, NotAudioError, UsageError
from speakerguard.sound.audio import MAX_CHANNELS, SAMPLE_RATE, check_rate, unknown

if TYPE_CHECKING:
    from speakerguard.verification.verifier import Verification, Verifier

GROWTH = 1.1  # by how much a recording is longer when it is judged again
LONGEST = 600.0  # seconds that are kept; who has not spoken enough by then will not
_NO_PCM = "only 16-bit PCM can be followed. Record with S16_LE, or verify the file itself."
_ENCODED = (  # what other formats start with; RF64, RIFX and riff (W64) are kinds of WAV
    *(b"RF64", b"RIFX", b"riff", b"FORM", b".snd", b"fLaC", b"OggS"),
    *(b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
)
_BLOCK_SECONDS = 0.1  # read from a pipe or microphone at a time

Samples = npt.NDArray[Any]


class Stream:
    """One recording that is still growing, and the claim it is judged against.

    Args:
        rate: Hz, of the samples to come.
        every: least seconds between provisional answers.

    Raises:
        NotAudioError: such a rate carries no speech.
        ProfileError: nobody of that name, or enrolled with other weights.
    """

    def __init__(
        self,
        verifier: Verifier,
        name: str,
        rate: int = SAMPLE_RATE,
        operating_point: str | None = None,
        every: float = 1.0,
    ) -> None:
        check_rate("<stream>", rate)
        self.verifier, self.name, self.rate, self.point = verifier, name, rate, operating_point
        self.every = every
        self.seconds = 0.0
        self._kept: list[Samples] = []
        self._next = every
        verifier.profile(name)  # refuses an unknown name before anybody speaks

    @property
    def full(self) -> bool:
        """Whether more samples would be left aside."""
        return self.seconds >= LONGEST

    def add(self, samples: Samples) -> Verification | None:
        """Take samples, (n,) or (n, channels), floats in [-1, 1] or integers of full range.

        Returns:
            A provisional answer, where it was time for one and there was speech enough.

        Raises:
            UsageError: they are no array, or of another type or number of channels than before.
        """
        if not isinstance(samples, np.ndarray):
            raise UsageError(f"a stream takes arrays of samples, not {type(samples).__name__}.")
        if self.full or not len(samples):
            return None
        if self._kept and _kind(self._kept[0]) != _kind(samples):
            raise UsageError(
                f"a stream of {_kind(self._kept[0])} cannot go on with {_kind(samples)} (type and "
                "channels): give all samples alike."
            )
        self._kept.append(np.array(samples))
        self.seconds += len(samples) / self.rate
        if self.seconds < self._next:
            return None
        self._next = max(self.seconds + self.every, self.seconds * GROWTH)
        try:
            return self.finish()
        except AudioError:  # not enough speech yet
            return None

    def finish(self) -> Verification:
        """The answer to all that was added; equal to the offline one.

        Raises:
            AudioError: it cannot be judged.
        """
        whole = np.concatenate(self._kept) if self._kept else np.zeros(0, np.float32)
        return self.verifier.verify(self.name, (whole, self.rate), self.point)


def _kind(samples: Samples) -> tuple[str, tuple[int, ...]]:
    return str(samples.dtype), samples.shape[1:]


def read_pipe(pipe: BinaryIO, rate: int = SAMPLE_RATE) -> tuple[int, Iterator[Samples]]:
    """Rate and blocks, int16 (n, channels), of 16-bit PCM that comes through a pipe.

    A WAV header, such as ``arecord`` writes, states rate and channels, and where the samples end;
    a stream may end earlier. Without one they are taken as mono, little-endian, of ``rate``.

    Raises:
        NotAudioError: a WAV header of anything but 16-bit PCM, or another format's.
    """
    head = _exactly(pipe, 12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        rate, channels, length = _wav_header(pipe)
        return rate, _blocks(pipe, b"", rate, channels, length)
    if head.startswith(_ENCODED):
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
    about = None
    while len(chunk := _exactly(pipe, 8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            break
        body = _exactly(pipe, length + length % 2)
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


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    """``count`` bytes, or fewer at the end."""
    parts = b""
    while len(parts) < count and (more := pipe.read(count - len(parts))):
        parts += more
    return parts
