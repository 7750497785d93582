"""Sound that is still coming: 16-bit PCM through a pipe, or from a microphone, in small blocks."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from speakerguard.decoding.containers import unknown
from speakerguard.errors import NotAudioError, UsageError
from speakerguard.sound.audio import MAX_CHANNELS, SAMPLE_RATE, Reading, check_rate

_NO_PCM = "only 16-bit PCM can be followed. Record with S16_LE, or verify the file itself."
_ENCODED = (  # what other formats start with; RF64, RIFX and riff (W64) are kinds of WAV
    *(b"RF64", b"RIFX", b"riff", b"FORM", b".snd", b"fLaC", b"OggS"),
    *(b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"),
    *(b"\x1a\x45\xdf\xa3", b"#!AMR", b"NIST_1A", b"caff"),
)
MOST_HEADER = 16 << 20  # bytes of a WAV header, with pictures and texts, before its samples
_BLOCK_SECONDS = 0.1  # read from a pipe or microphone at a time

Samples = npt.NDArray[Any]


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
