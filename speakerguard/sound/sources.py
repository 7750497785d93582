"""What a recording can be given as: a path, bytes, a file object, an array, samples without header.

Whatever it is, it is bounded, and what goes wrong while it is reached is an error that names it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile

from speakerguard.decoding.pieces import Pieces
from speakerguard.errors import (
    EmptyAudioError,
    NotAudioError,
    OversizedAudioError,
    SpeakerguardError,
    UsageError,
)
from speakerguard.errors import (
    printable as printable,
)

SAMPLE_RATE = 16_000  # Hz; every model in the guard hears this rate
MIN_RATE, MAX_RATE = 4_000, 768_000  # Hz; below, speech is gone; above, a broken header
MAX_CHANNELS = 64  # more are samples in the wrong direction, or no header
MAX_ENCODED = 192 << 20  # bytes that are taken from a pipe
RAW = {  # what samples without a header can be: libsndfile's name, and the order of their bytes
    **{"ulaw": ("ULAW", "FILE"), "alaw": ("ALAW", "FILE")},
    **{"u8": ("PCM_U8", "FILE"), "s8": ("PCM_S8", "FILE")},
    **{f"s{bits}le": (f"PCM_{bits}", "LITTLE") for bits in (16, 24, 32)},
    **{f"s{bits}be": (f"PCM_{bits}", "BIG") for bits in (16, 24, 32)},
    **{"f32le": ("FLOAT", "LITTLE"), "f32be": ("FLOAT", "BIG")},
}

Waveform = npt.NDArray[np.float32]
Encoded = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Reading:
    """A recording, and how to read it where it does not say so itself, or not all is wanted.

    It can be given wherever a recording can.

    Attributes:
        source: what is read: a path, bytes, a file object or an array with its rate.
        channel: the only one to listen to, from 1; None averages all.
        raw: what its samples are, where it has no header: one of :data:`RAW`.
        rate, channels: of such samples, in Hz.

    Raises:
        UsageError: an unknown coding, or a number that cannot be.
    """

    source: Any
    channel: int | None = None
    raw: str | None = None
    rate: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.channel is not None and not 1 <= self.channel <= MAX_CHANNELS:
            raise UsageError(f"channel {self.channel}: channels are counted from 1.")
        if self.raw is None:
            if self.rate is not None or self.channels is not None:
                raise UsageError("a rate or channels are for samples without a header: add raw.")
            return
        if self.raw not in RAW:
            raise UsageError(f"{self.raw!r} is no kind of sample; there are: {', '.join(RAW)}.")
        if self.rate is None:
            raise UsageError(f"samples that are {self.raw} need a rate, such as 8000 Hz.")
        check_rate("<raw>", self.rate)
        if not 1 <= self.shape[1] <= MAX_CHANNELS:
            raise UsageError(f"{self.channels} channels: give 1 to {MAX_CHANNELS}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rate and channels of raw samples."""
        return self.rate or SAMPLE_RATE, 1 if self.channels is None else self.channels

    @property
    def width(self) -> int:
        """Bytes of raw samples, over all channels."""
        digits = "".join(filter(str.isdigit, self.raw or "")) or "8"  # of logarithmic ones, 8
        return int(digits) // 8 * self.shape[1]

    def raw_file(self, file: Any) -> soundfile.SoundFile:
        """Raw samples as something to read from."""
        subtype, endian = RAW[self.raw or ""]
        rate, channels = self.shape
        return soundfile.SoundFile(
            file, "r", rate, channels, subtype, endian, format="RAW", closefd=False
        )


AudioSource = str | os.PathLike[str] | Encoded | BinaryIO | tuple[Any, int] | Reading


def several(sources: Iterable[AudioSource]) -> Iterable[AudioSource]:
    """``sources``, unless it is one recording, whose parts would be taken for several.

    Raises:
        UsageError: it is one.
    """
    single = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview))
    pair = isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[0], np.ndarray)
    if single or pair or hasattr(sources, "read"):
        raise UsageError("several recordings are asked for here: give a list, even of one.")
    return sources


def as_handle(source: Any) -> tuple[BinaryIO, str]:
    if isinstance(source, Encoded):
        return io.BytesIO(source), "<bytes>"
    path = source if isinstance(source, (str, os.PathLike)) else None
    try:
        if path is not None:
            name = printable(os.fspath(path))
            source = Path(path).open("rb", buffering=0)  # noqa: SIM115
        elif hasattr(source, "read"):
            name = printable(getattr(source, "name", "<audio>"))
        else:
            kind = type(source).__name__
            raise UsageError(f"audio is a path, bytes, a file or (samples, rate), not a {kind}.")
        if not (hasattr(source, "seekable") and source.seekable()):
            with source if path is not None else nullcontext():
                source = _whole_pipe(source, name)
        if not isinstance(source.read(0), bytes):
            raise ValueError("it gives text; open it in binary mode")
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file. Check the path.") from None
    except SpeakerguardError:
        raise
    except Exception as error:  # whatever a file object of others raises
        raise _unreadable(name, error) from None
    return source, name


def _whole_pipe(pipe: BinaryIO, name: str) -> io.BytesIO:
    kept = io.BytesIO()
    while more := pipe.read(1 << 20):
        kept.write(more)
        if kept.tell() > MAX_ENCODED:
            raise OversizedAudioError(
                f"{name}: gives more than {MAX_ENCODED >> 20} MiB. Save it to a file, or follow "
                "it with --stream."
            )
    return kept


def sized(handle: BinaryIO, name: str) -> tuple[BinaryIO, int]:
    """What is read from, and its bytes. libsndfile reads a file itself: called back for its bytes,
    it would swallow a Ctrl-C, and what the file objects of others raise."""
    try:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
    except Exception as error:
        raise _unreadable(name, error) from None
    if isinstance(handle, io.FileIO) and os.name == "posix":
        return handle, size
    return cast(BinaryIO, Pieces(handle, [(0, size)])), size


def own(file: Any) -> Any:
    file.seek(0)
    return file.fileno() if isinstance(file, io.FileIO) else file


def complain(file: Any, name: str) -> None:
    """Raise what was raised while a decoder read."""
    error = getattr(file, "error", None)
    if isinstance(error, Exception):
        raise _unreadable(name, error) from None
    if error is not None:
        raise error


def _unreadable(name: str, error: Exception) -> UsageError:
    reason = printable(getattr(error, "strerror", None) or error) or type(error).__name__
    return UsageError(f"{name}: cannot be read ({reason}). Check the path and its permissions.")


def as_samples(samples: Any = None, rate: Any = None, *more: Any) -> tuple[Waveform, int]:
    try:
        if hasattr(samples, "detach"):  # a torch tensor, of which numpy takes not every kind
            samples = samples.detach().cpu()
            samples = samples.float() if samples.is_floating_point() else samples
        array, rate = np.asarray(samples), int(rate)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        rate = None
    if rate is None or more:
        raise UsageError("<array>: give (samples, rate), an array and its sample rate in Hz.")
    check_rate("<array>", rate)
    if array.size == 0:
        raise EmptyAudioError("<array>: holds no samples.")
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] > MAX_CHANNELS:
        raise UsageError(
            f"<array>: shape {np.shape(samples)} is neither (n,) nor (n, channels); transpose it."
        )
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - np.float32(128)) / np.float32(128), rate
    if array.dtype.kind == "i" and array.itemsize <= 4:
        full_scale = -float(np.iinfo(array.dtype).min)
        return np.divide(array, full_scale, dtype=np.float32), rate
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float32), rate
    raise UsageError(f"<array>: samples of type {array.dtype} are not audio; use float32 or int16.")


def check_rate(name: str, rate: int) -> None:
    """Raise NotAudioError where no recording has such a sample rate, in Hz."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise NotAudioError(
            f"{name}: a sample rate of {rate} Hz cannot carry speech; "
            f"use {MIN_RATE} Hz or more, best {SAMPLE_RATE}."
        )
