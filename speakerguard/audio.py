"""From any recording to one waveform: float32, mono, 16 kHz, in [-1, 1].

Whatever comes in (path, bytes, file object, array; WAV, FLAC, OGG, Opus, MP3; any rate and
channel count) leaves here block by block, so an hour of audio never needs an hour of memory.
Recordings that cannot be judged raise an :class:`~speakerguard.errors.AudioError` that says
what to do; nothing here returns a number in place of an answer.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

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

SAMPLE_RATE = 16_000  # Hz; every model in the guard hears this rate
BLOCK_SECONDS = 20.0  # decoded and resampled at a time
MIN_RATE, MAX_RATE = 4_000, 768_000  # Hz; below, speech is gone; above, a broken header

Waveform = npt.NDArray[np.float32]
AudioSource = str | os.PathLike[str] | bytes | bytearray | BinaryIO | tuple[Any, int]

_FORMATS = "WAV, FLAC, OGG, Opus or MP3"
_OGG_END_OF_STREAM = 0x04  # header-type flag of the last page, RFC 3533 section 6


@dataclass
class Recording:
    """What is known of a recording while, and after, its blocks are read.

    Attributes:
        name: what to call it in messages; a file's base name, or ``<audio>``.
        rate: its own sample rate in Hz.
        channels: its own channel count.
        seconds: duration read so far, in seconds.
        peak: largest absolute sample so far, full scale is 1.
        clipped: samples so far that sit in a run of at least three at full scale.
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
        """Yield the waveform in blocks of at most :data:`BLOCK_SECONDS`: float32, 16 kHz, (n,).

        Raises:
            EmptyAudioError: there were no samples at all.
            InvalidSamplesError: a sample is NaN or infinite.
            TruncatedAudioError: the data ends before the header says.
        """
        resampler = None
        if self.rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        for chunk in self._chunks:
            self._inspect(chunk)
            mono = chunk.mean(axis=1, dtype=np.float32) if chunk.shape[1] > 1 else chunk[:, 0]
            if resampler is not None:
                mono = resampler.resample_chunk(np.ascontiguousarray(mono))
            if len(mono):
                yield np.clip(mono, -1.0, 1.0)
        if self.samples == 0:
            raise EmptyAudioError(f"{self.name}: holds no samples. Record it again.")
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(rest):
                yield np.clip(rest, -1.0, 1.0)

    def _inspect(self, chunk: npt.NDArray[np.float32]) -> None:
        if not np.isfinite(chunk).all():
            where = self.seconds + np.argwhere(~np.isfinite(chunk))[0, 0] / self.rate
            raise InvalidSamplesError(
                f"{self.name}: NaN or infinite sample at {where:.2f} s. "
                "The program that wrote it is at fault; export the recording again."
            )
        loud = np.abs(chunk)
        self.peak = max(self.peak, float(loud.max(initial=0.0)))
        full = loud >= 0.999
        if full.any():
            runs = full[2:] & full[1:-1] & full[:-2]
            self.clipped += int(runs.sum())
        self.samples += chunk.size
        self.seconds += len(chunk) / self.rate


def open_recording(source: AudioSource) -> Recording:
    """Open ``source`` for reading in blocks.

    Args:
        source: a path, encoded bytes, a binary file object, or ``(samples, rate)`` where samples
            has shape (n,) or (n, channels), floats in [-1, 1] or integers of their full range.

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
        step = max(1, int(BLOCK_SECONDS * rate))
        recording._chunks = (samples[i : i + step] for i in range(0, len(samples), step))
        return recording
    handle, name = _as_handle(source)
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    if size == 0:
        raise EmptyAudioError(f"{name}: the file is empty. Record or copy it again.")
    try:
        sound = soundfile.SoundFile(handle)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise NotAudioError(
            f"{name}: cannot be decoded as audio ({_reason(error)}). Convert it to {_FORMATS}."
        ) from error
    _check_rate(name, sound.samplerate)
    _check_length(name, handle, size, sound.format)
    recording = Recording(name, sound.samplerate, sound.channels)
    recording._chunks = _decode(name, sound)
    return recording


def read(source: AudioSource) -> Waveform:
    """Read all of ``source`` at once: float32 (n,), 16 kHz. Errors as :func:`open_recording`."""
    return np.concatenate(list(open_recording(source).blocks()))


def _as_handle(source: Any) -> tuple[BinaryIO, str]:
    if isinstance(source, (bytes, bytearray)):
        return io.BytesIO(source), "<bytes>"
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            return path.open("rb"), printable(path.name)
        except FileNotFoundError:
            raise UsageError(f"{printable(path)}: no such file. Check the path.") from None
        except OSError as error:
            raise UsageError(
                f"{printable(path)}: cannot be read ({error.strerror}). Check the path and its "
                "permissions."
            ) from None
    if hasattr(source, "read"):
        name = printable(Path(str(getattr(source, "name", "<audio>"))).name)
        if not (hasattr(source, "seekable") and source.seekable()):
            source = io.BytesIO(source.read())
        return source, name
    raise UsageError(
        f"audio cannot be a {type(source).__name__}: give a path, bytes, a binary file, or "
        "(samples, rate)."
    )


def _as_samples(samples: Any, rate: Any) -> tuple[npt.NDArray[np.float32], int]:
    array = np.asarray(samples)
    _check_rate("<array>", int(rate))
    if array.size == 0:
        raise EmptyAudioError("<array>: holds no samples.")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > 64:
        raise UsageError(
            f"<array>: shape {np.shape(samples)} is neither (n,) nor (n, channels); transpose it."
        )
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - np.float32(128)) / np.float32(128), int(rate)
    if np.issubdtype(array.dtype, np.signedinteger):
        full_scale = -float(np.iinfo(array.dtype).min)
        return np.divide(array, full_scale, dtype=np.float32), int(rate)
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            return array.astype(np.float32), int(rate)
    raise UsageError(f"<array>: samples of type {array.dtype} are not audio; use float32 or int16.")


def _check_rate(name: str, rate: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise NotAudioError(
            f"{name}: a sample rate of {rate} Hz cannot carry speech; "
            f"use {MIN_RATE} Hz or more, best {SAMPLE_RATE}."
        )


def _check_length(name: str, handle: BinaryIO, size: int, container: str) -> None:
    """Raise if the container says it is longer than the file; libsndfile would not notice."""
    position = handle.tell()
    try:
        missing = (container in {"WAV", "WAVEX", "RF64"} and _wav_missing(handle, size)) or (
            container == "OGG" and not _ogg_ends(handle, size)
        )
    finally:
        handle.seek(position)
    if missing:
        raise _truncated(name)


def _wav_missing(handle: BinaryIO, size: int) -> bool:
    handle.seek(12)
    while len(head := handle.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            streamed = length in (0, 0xFFFFFFFF, 0x7FFFFFFF)  # writer could not seek back
            return not streamed and handle.tell() + length > size
        handle.seek(length + length % 2, os.SEEK_CUR)
    return False


def _ogg_ends(handle: BinaryIO, size: int) -> bool:
    handle.seek(max(0, size - 2 * 65_307))  # a page is at most 65,307 bytes
    tail = handle.read()
    last = tail.rfind(b"OggS")
    return last >= 0 and last + 5 < len(tail) and bool(tail[last + 5] & _OGG_END_OF_STREAM)


def _decode(name: str, sound: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    step = max(1, int(BLOCK_SECONDS * sound.samplerate))
    declared, got = sound.frames, 0
    with sound:
        while True:
            try:
                chunk = sound.read(step, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise _truncated(name) from error
            if not len(chunk):
                break
            got += len(chunk)
            yield chunk
    tolerance = 0 if sound.format == "FLAC" else 0.1 * sound.samplerate  # codec delay
    if 0 < declared < 2**62 and got < declared - tolerance:
        raise _truncated(name)


def _truncated(name: str) -> AudioError:
    return TruncatedAudioError(
        f"{name}: the file ends before its header says it should; "
        "it was cut off while recording or copying. Copy it again."
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", None) or error).strip().rstrip(".").lower()


def printable(text: object) -> str:
    """``text`` as it can be shown anywhere, whatever bytes a file name holds."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
