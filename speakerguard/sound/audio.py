"""From any recording to one waveform: float32, mono, 16 kHz, in [-1, 1].

Whatever comes in (path, bytes, file object, array; WAV, FLAC, OGG, Opus, MP3; any rate and
channel count) leaves here block by block, so an hour of audio never needs an hour of memory.
Recordings that cannot be judged raise an :class:`~speakerguard.errors.AudioError` that says
what to do; nothing here returns a number in place of an answer.

A file that was cut off is noticed in WAV, AIFF, FLAC, OGG and Opus to the byte, and in MP3, whose
frames stand alone, if more than 0.1 s are missing and the file states its length.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speakerguard.errors import (
    AudioError,
    EmptyAudioError,
    InvalidSamplesError,
    NotAudioError,
    TruncatedAudioError,
    UsageError,
)
from speakerguard.errors import printable as printable  # which others ask this module for

SAMPLE_RATE = 16_000  # Hz; every model in the guard hears this rate
BLOCK_SECONDS = 20.0  # decoded and resampled at a time
BLOCK_VALUES = 1 << 23  # at most, over all channels; 32 MiB
MAX_CHANNELS = 64  # of an array or a pipe; more are samples in the wrong direction, or no header
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}  # of what is found in a folder
MIN_RATE, MAX_RATE = 4_000, 768_000  # Hz; below, speech is gone; above, a broken header

Waveform = npt.NDArray[np.float32]
Encoded = bytes | bytearray | memoryview
AudioSource = str | os.PathLike[str] | Encoded | BinaryIO | tuple[Any, int]

_BIG_ENDIAN = {b"FORM", b"RIFX"}  # what AIFF and the rarer kind of WAV start with
_OVERSHOOT = 16.0  # times full scale; decoders overshoot by less, integers kept as floats by more


@dataclass
class Recording:
    """What is known of a recording while, and after, its blocks are read.

    Attributes:
        name: what to call it in messages: the path as given, ``<bytes>``, ``<array>``, ``<audio>``.
        rate: its own sample rate in Hz.
        channels: its own channel count.
        seconds: duration read so far, in seconds.
        peak: largest absolute sample so far, full scale is 1.
        clipped: samples so far that are at full scale, as are the next two.
        samples: samples so far over all channels, at its own rate.
    """

    name: str
    rate: int
    channels: int
    seconds: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    samples: int = 0
    _chunks: Iterator[npt.NDArray[np.float32]] = field(default_factory=lambda: iter(()), repr=False)

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform in blocks of about :data:`BLOCK_SECONDS`: float32, 16 kHz, (n,).

        Raises:
            EmptyAudioError: there were no samples, or not enough for one at 16 kHz.
            InvalidSamplesError: a sample is NaN, infinite or far beyond full scale.
            TruncatedAudioError: the data ends before the header says, or is damaged.
        """
        length, resampler = 0, None
        if self.rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        for chunk in self._chunks:
            self._inspect(chunk)
            mono = chunk.mean(axis=1, dtype=np.float32) if chunk.shape[1] > 1 else chunk[:, 0]
            if resampler is not None:
                mono = resampler.resample_chunk(np.ascontiguousarray(mono))
            length += len(mono)
            yield np.clip(mono, -1.0, 1.0)
        if resampler is not None:
            mono = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            length += len(mono)
            yield np.clip(mono, -1.0, 1.0)
        if length == 0:
            raise EmptyAudioError(f"{self.name}: holds no samples. Record it again.")

    def _inspect(self, chunk: npt.NDArray[np.float32]) -> None:
        if not np.isfinite(chunk).all():
            where = self.seconds + np.argwhere(~np.isfinite(chunk))[0, 0] / self.rate
            raise InvalidSamplesError(
                f"{self.name}: NaN or infinite sample at {where:.2f} s. "
                "The program that wrote it is at fault; export the recording again."
            )
        loud = np.abs(chunk)
        self.peak = max(self.peak, float(loud.max(initial=0.0)))
        if self.peak > _OVERSHOOT:
            raise InvalidSamplesError(
                f"{self.name}: a sample of {self.peak:g}, but full scale is 1. Divide samples of "
                "16 bits by 32768, or give them as integers."
            )
        full = loud >= 0.999
        self.clipped += int((full[2:] & full[1:-1] & full[:-2]).sum())
        self.samples += chunk.size
        self.seconds += len(chunk) / self.rate


def open_recording(source: AudioSource) -> Recording:
    """Open ``source`` for reading in blocks.

    Args:
        source: a path, encoded bytes, a binary file object, or ``(samples, rate)`` where samples
            has shape (n,) or (n, channels), floats in [-1, 1] or integers of their full range.
            What cannot seek, such as a pipe, is first read whole.

    Raises:
        NotAudioError: the bytes are not in a format that can be decoded.
        EmptyAudioError: there is nothing in it.
        TruncatedAudioError: the file ends early.
        UsageError: no such file, or an array of the wrong shape or type.

    >>> ramp = np.linspace(-0.5, 0.5, 44_100, dtype=np.float32)
    >>> sum(len(block) for block in open_recording((ramp, 44_100)).blocks())
    16000
    """
    if isinstance(source, tuple):
        samples, rate = _as_samples(*source)
        recording = Recording("<array>", rate, samples.shape[1])
        step = _block_frames(rate, samples.shape[1])
        recording._chunks = (samples[i : i + step] for i in range(0, len(samples), step))
        return recording
    with ExitStack() as opened:
        handle, name = _as_handle(source)
        if handle is not source:
            opened.enter_context(handle)
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        if size == 0:
            raise EmptyAudioError(f"{name}: the file is empty. Record or copy it again.")
        try:
            # libsndfile reads a file itself: called back for its bytes, it would swallow a Ctrl-C
            own = isinstance(handle, io.FileIO) and os.name == "posix"
            sound = soundfile.SoundFile(handle.fileno() if own else handle, closefd=False)
        except (RuntimeError, TypeError) as error:
            reason = str(getattr(error, "error_string", error)).strip(" .").lower()
            raise NotAudioError(
                f"{name}: cannot be decoded as audio ({reason}). Convert it to WAV or FLAC."
            ) from error
        opened.enter_context(sound)
        check_rate(name, sound.samplerate)
        if not _whole(handle, size, sound.format):
            raise _truncated(name)
        recording = Recording(name, sound.samplerate, sound.channels)
        recording._chunks = _decode(name, sound, handle, size, opened.pop_all())
        return recording


def read(source: AudioSource) -> Waveform:
    """Read all of ``source`` at once: float32 (n,), 16 kHz. Raises what both of the above do."""
    return np.concatenate(list(open_recording(source).blocks()))


def _as_handle(source: Any) -> tuple[BinaryIO, str]:
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
                source = io.BytesIO(source.read())
        if not isinstance(source.read(0), bytes):
            raise ValueError("it gives text; open it in binary mode")
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file. Check the path.") from None
    except (OSError, TypeError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error)
        raise UsageError(
            f"{name}: cannot be read ({reason}). Check the path and its permissions."
        ) from None
    return source, name


def _as_samples(samples: Any = None, rate: Any = None, *more: Any) -> tuple[Waveform, int]:
    try:
        array, rate = np.asarray(samples), int(rate)
    except (TypeError, ValueError, OverflowError):
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


def _block_frames(rate: int, channels: int) -> int:
    return max(1, min(int(BLOCK_SECONDS * rate), BLOCK_VALUES // channels))


def _whole(handle: BinaryIO, size: int, container: str) -> bool:
    """False if the container says it is longer than the file; libsndfile would not notice."""
    position = handle.tell()
    try:
        if container in {"WAV", "WAVEX", "RF64", "AIFF"}:
            return _chunks_end(handle, size)
        return container != "OGG" or _ogg_ends(handle, size)
    finally:
        handle.seek(position)


def _chunks_end(handle: BinaryIO, size: int) -> bool:
    """Whether the chunk of samples lies within the file."""
    handle.seek(0)
    order: Literal["big", "little"] = "big" if handle.read(12)[:4] in _BIG_ENDIAN else "little"
    large = 0
    while len(head := handle.read(8)) == 8:
        length = int.from_bytes(head[4:], order)
        start = handle.tell()
        if head[:4] == b"ds64":  # RF64: the length of data, where 32 bits cannot hold it
            large = int.from_bytes(handle.read(16)[8:], order)
        elif head[:4] in {b"data", b"SSND"}:
            return start + (large if unknown(length) else length) <= size  # large may be 0
        handle.seek(start + length + length % 2)
    return True


def unknown(length: int) -> bool:
    """Whether a WAV header's length of samples is what recorders write before they know it."""
    return length & 0x7FFF_0000 == 0x7FFF_0000 or length == 0x8000_0000


def _ogg_ends(handle: BinaryIO, size: int) -> bool:
    """Whether the last page ends the stream, and lies within the file (RFC 3533 section 6)."""
    handle.seek(max(0, size - 2 * 65_307))  # a page is at most 65,307 bytes
    tail = handle.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 0x04:  # header type flag: end of stream
        return False
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _decode(
    name: str, sound: soundfile.SoundFile, handle: BinaryIO, size: int, opened: ExitStack
) -> Iterator[npt.NDArray[np.float32]]:
    """The samples, (n, channels) at a time; closes what was ``opened`` for them."""
    step = _block_frames(sound.samplerate, sound.channels)
    declared, got = sound.frames, 0
    with opened:
        while True:
            try:
                chunk = sound.read(step, dtype="float32", always_2d=True)
            except RuntimeError as error:
                raise _truncated(name) from error
            if not len(chunk):
                break
            got += len(chunk)
            yield chunk
        unread = sound.format == "MP3" and handle.tell() < 0.8 * size  # length only guessed
    tolerance = 0 if sound.format == "FLAC" else 0.1 * sound.samplerate  # codec delay
    if unread or (0 < declared < 2**62 and got < declared - tolerance):
        raise _truncated(name)


def _truncated(name: str) -> AudioError:
    return TruncatedAudioError(
        f"{name}: the file is cut off or damaged: its header and the audio in it do not agree. "
        "Copy it again, or convert it to WAV."
    )
