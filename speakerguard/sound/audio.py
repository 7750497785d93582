"""From any recording to one waveform: float32, mono, 16 kHz, in [-1, 1].

Whatever comes in (path, bytes, file object, array; WAV, FLAC, OGG, Opus, MP3 and what else
libsndfile reads, AAC, M4A, WebM and others where PyAV is installed; any rate and channel count)
leaves here block by block, so an hour of audio never needs an hour of memory. Recordings that
cannot be judged raise an :class:`~speakerguard.errors.AudioError` that says what to do; nothing
here returns a number in place of an answer.

A file that was cut off is noticed; :mod:`speakerguard.decoding.containers` says in which formats,
and how.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
import soxr

from speakerguard.decoding import mpeg
from speakerguard.decoding.containers import Mended, mend
from speakerguard.errors import (
    AudioError,
    EmptyAudioError,
    InvalidSamplesError,
    NotAudioError,
    OversizedAudioError,
    TruncatedAudioError,
    UsageError,
)
from speakerguard.sound.mixing import Mixer
from speakerguard.sound.sources import (
    MAX_CHANNELS,
    SAMPLE_RATE,
    AudioSource,
    Reading,
    Waveform,
    as_handle,
    as_samples,
    check_rate,
    complain,
    own,
    printable,
    sized,
)

__all__ = [
    "MAX_CHANNELS",
    "SAMPLE_RATE",
    "AudioSource",
    "Reading",
    "Recording",
    "Waveform",
    "check_rate",
    "open_recording",
    "printable",
    "read",
]

BLOCK_SECONDS = 20.0  # decoded and resampled at a time
BLOCK_VALUES = 1 << 23  # at most, over all channels; 32 MiB
MAX_SECONDS = 1800.0  # that can be read at once
MAX_VALUES = 180_000_000  # samples over all channels likewise: as long, of two at 48 kHz
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}  # of what is found in a folder

_OVERSHOOT = 16.0  # times full scale; decoders overshoot by less, integers kept as floats by more
_SAMPLE_DUMP = b"\xf0\x7e"  # MIDI: libsndfile prints on standard output what it does not like


@dataclass
class Recording:
    """What is known of a recording while, and after, its blocks are read.

    Attributes:
        name: what to call it in messages: the path as given, ``<bytes>``, ``<array>``, ``<audio>``.
        rate: its own sample rate in Hz.
        channels: its own channel count.
        channel: the only one that is listened to, from 0; None is all.
        seconds: duration read so far, in seconds.
        peak: largest absolute sample so far, full scale is 1.
        clipped: samples so far that are at full scale, as are the next two.
        samples: samples so far over all channels that are listened to, at its own rate.
        decoded: samples so far over all channels.
        notes: what is worth a warning, by its code.
    """

    name: str
    rate: int
    channels: int
    channel: int | None = None
    seconds: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    samples: int = 0
    decoded: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    _chunks: Iterable[Waveform] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_rate(self.name, self.rate)
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise NotAudioError(
                f"{self.name}: {self.channels} channels; at most {MAX_CHANNELS} are read. Keep "
                "those with speech."
            )
        if self.channel is not None and self.channel >= self.channels:
            raise UsageError(
                f"{self.name}: there is no channel {self.channel + 1}; it has {self.channels}."
            )
        self._mixer = Mixer(self.rate, self.channels if self.channel is None else 1)
        self._resampler: soxr.ResampleStream | None = None

    @property
    def swing(self) -> float:
        """Largest absolute sample so far, a constant offset taken away."""
        return self._mixer.swing

    @property
    def exhausted(self) -> bool:
        """Whether as much was read as is read of any recording."""
        return self.seconds > MAX_SECONDS or self.decoded > MAX_VALUES

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform in blocks of about :data:`BLOCK_SECONDS`: float32, 16 kHz, (n,).

        Raises:
            EmptyAudioError: there were no samples, or not enough for one at 16 kHz.
            InvalidSamplesError: a sample is NaN, infinite or far beyond full scale.
            TruncatedAudioError: the data ends before the header says, or is damaged.
        """
        length = 0
        try:
            for chunk in self._chunks:
                block = self.take(chunk)
                length += len(block)
                yield block
            if self._resampler is not None:
                block = self.end()
                length += len(block)
                yield block
        finally:
            self._resampler = None  # held by an error, it would complain when the program ends
        if length == 0:
            raise EmptyAudioError(f"{self.name}: holds no samples. Record it again.")

    def take(self, chunk: Waveform) -> Waveform:
        """The waveform of a chunk (n, channels), as far as it is settled: float32, 16 kHz."""
        self.decoded += chunk.size
        if self.channel is not None:
            chunk = chunk[:, self.channel : self.channel + 1]
        self._inspect(chunk)
        mono = self._mixer.mono(chunk)
        if self.rate != SAMPLE_RATE:
            if self._resampler is None:
                self._resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
            mono = self._resampler.resample_chunk(np.ascontiguousarray(mono))
        self._listen()
        return np.clip(mono, -1.0, 1.0)

    def end(self) -> Waveform:
        """What was not settled yet, when nothing more comes."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self._resampler = None
        return np.clip(rest, -1.0, 1.0)

    def fork(self) -> Recording:
        """A copy that goes on by itself; what was not settled yet stays behind."""
        other = copy.copy(self)
        other.notes, other._mixer = dict(self.notes), copy.deepcopy(self._mixer)
        other._resampler = None
        return other

    def _listen(self) -> None:
        if self._mixer.cancelled:
            self.notes["channels-cancel"] = (
                "the channels cancel each other, as of a microphone wired the wrong way round: "
                "only the loudest was taken."
            )
        self.notes.pop("channels-differ", None)
        if self._mixer.differ:
            self.notes["channels-differ"] = (
                "the channels carry different sounds, as in a call with a voice on each, and were "
                "averaged; choose one with --channel 1, or channel=1."
            )

    def _inspect(self, chunk: Waveform) -> None:
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


def open_recording(source: AudioSource, channel: int | None = None) -> Recording:
    """Open ``source`` for reading in blocks.

    Args:
        source: a path, encoded bytes, a binary file object, or ``(samples, rate)`` where samples
            has shape (n,) or (n, channels), floats in [-1, 1] or integers of their full range; or
            one of these as a :class:`Reading`. What cannot seek, such as a pipe, is first read
            whole, up to :data:`MAX_ENCODED` bytes.
        channel: the only one to listen to, from 1; None averages all.

    Raises:
        NotAudioError: the bytes are not in a format that can be decoded.
        EmptyAudioError: there is nothing in it.
        OversizedAudioError: a pipe gives more than is read.
        TruncatedAudioError: the file ends early.
        UsageError: no such file, or one that cannot be read, or an array of the wrong shape or
            type, or a channel that is not there.

    >>> ramp = np.linspace(-0.5, 0.5, 44_100, dtype=np.float32)
    >>> sum(len(block) for block in open_recording((ramp, 44_100)).blocks())
    16000
    """
    how = source if isinstance(source, Reading) else Reading(source, channel)
    only = channel or how.channel
    only = None if only is None else only - 1
    if isinstance(how.source, tuple):
        samples, rate = as_samples(*how.source)
        recording = Recording("<array>", rate, samples.shape[1], only)
        step = block_frames(rate, samples.shape[1])
        recording._chunks = (samples[i : i + step] for i in range(0, len(samples), step))
        return recording
    with ExitStack() as opened:
        handle, name = as_handle(how.source)
        if handle is not how.source:
            opened.enter_context(handle)
        file, size = sized(handle, name)
        if size == 0:
            raise EmptyAudioError(f"{name}: the file is empty. Record or copy it again.")
        if how.raw is not None:
            sound, mended = how.raw_file(own(file)), Mended()
        else:
            mended = mend(file, size)
            complain(file, name)
            if not mended.whole:
                raise _truncated(name)
            sound = _open(name, file, size, mended)
        opened.enter_context(sound)
        recording = Recording(name, sound.samplerate, sound.channels, only)
        if mended.open_end:
            recording.notes["open-end"] = (
                "the file does not say where it ends, so all that is there was read. Was it "
                "recorded to its end?"
            )
        if mended.more:
            recording.notes["chained"] = (
                "another recording lies behind this one in the same file, and was not read."
            )
        if getattr(sound, "several", 1) > 1:
            recording.notes["several-streams"] = (
                "several streams of sound lie side by side in this file; only the first was read."
            )
        recording._chunks = _decode(recording, sound, file, mended, opened.pop_all())
        return recording


def read(source: AudioSource, channel: int | None = None) -> Waveform:
    """Read all of ``source`` at once: float32 (n,), 16 kHz. Raises what both of the above do.

    Raises:
        OversizedAudioError: it is longer than :data:`MAX_SECONDS`, or holds more samples than
            :data:`MAX_VALUES`.
    """
    recording = open_recording(source, channel)
    blocks = []
    for block in recording.blocks():
        blocks.append(block)
        if recording.exhausted:
            raise OversizedAudioError(
                f"{recording.name}: longer than the {recording.seconds / 60:.0f} min that are "
                "read at once. Cut it into pieces."
            )
    return np.concatenate(blocks)


def _open(name: str, file: Any, size: int, mended: Mended) -> Any:
    """A decoder: libsndfile's, or else FFmpeg's."""
    view, size = (mended.views[0], mended.views[0].size) if mended.views else (file, size)
    file.seek(0)
    head = file.read(10)
    file.seek(mpeg.id3_length(head) if head[:3] == b"ID3" else 0)
    other = mpeg.other_layer(file.read(2))
    if other and (sound := _ffmpeg(name, view, size)) is not None:
        return sound
    try:
        if head[:2] == _SAMPLE_DUMP:
            raise RuntimeError("a MIDI sample dump")
        if other:  # of which libsndfile reads a frame, and prints a line
            raise RuntimeError("frames of layer 1 or 2")
        return soundfile.SoundFile(own(view), closefd=False)
    except (RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).strip(" .").lower()
    complain(view, name)
    if (sound := _ffmpeg(name, view, size)) is not None:
        return sound
    from speakerguard.decoding import with_av as decoder_av

    more = "" if decoder_av.installed() else f", or install what reads more: {decoder_av.INSTALL}"
    raise NotAudioError(
        f"{name}: cannot be decoded as audio ({reason}). Convert it to WAV or FLAC{more}."
    )


def _ffmpeg(name: str, file: Any, size: int) -> Any:
    from speakerguard.decoding import with_av as decoder_av

    return decoder_av.open_sound(name, file, size)


def block_frames(rate: int, channels: int) -> int:
    """Samples a channel that are decoded at a time."""
    return max(1, min(int(BLOCK_SECONDS * rate), BLOCK_VALUES // channels))


def _decode(
    recording: Recording, sound: Any, file: Any, mended: Mended, opened: ExitStack
) -> Iterator[Waveform]:
    """The samples, (n, channels) at a time; closes what was ``opened`` for them."""
    name, views = recording.name, list(mended.views)
    with opened:
        yield from _samples_of(name, sound, views[0] if views else file)
        for view in views[1:]:
            try:
                more = _open(name, view, view.size, Mended())
            except NotAudioError as error:
                raise _truncated(name) from error
            with more:
                if (more.samplerate, more.channels) != (sound.samplerate, sound.channels):
                    recording.notes["chained"] = (
                        "several recordings lie one behind the other in this file; those from "
                        f"{recording.seconds:.1f} s on were not read, as they differ in rate or "
                        "channels."
                    )
                    break
                yield from _samples_of(name, more, view)


def _samples_of(name: str, sound: Any, file: Any) -> Iterator[Waveform]:
    step = block_frames(sound.samplerate, sound.channels)
    declared, got = sound.frames, 0
    while True:
        try:
            chunk = sound.read(step, dtype="float32", always_2d=True)
        except RuntimeError as error:
            complain(file, name)
            raise _truncated(name) from error
        complain(file, name)
        if not len(chunk):
            break
        got += len(chunk)
        yield chunk
    unread = False
    if sound.format == "MP3":  # its length may be guessed
        at = file.tell()
        unread = at < 0.8 * file.seek(0, os.SEEK_END)
    tolerance = 0 if sound.format == "FLAC" else 0.1 * sound.samplerate  # codec delay
    if unread or (0 < declared < 2**62 and got < declared - tolerance):
        raise _truncated(name)


def _truncated(name: str) -> AudioError:
    return TruncatedAudioError(
        f"{name}: the file is cut off or damaged: its header and the audio in it do not agree. "
        "Copy it again, or convert it to WAV."
    )
