"""What libsndfile cannot read: AAC, M4A, WebM, Matroska, AMR, 3GP, WMA, FLAC in Ogg and others.

FFmpeg reads them, through the optional package PyAV. It is given bytes and nothing else: only
formats that hold their own audio are looked for, so none that names other files or addresses is
followed (playlists, HLS, DASH, concat), and no protocol is open to it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from typing import Any

import numpy as np

from speakerguard.decoding.mediaboxes import cut_off
from speakerguard.decoding.pieces import Pieces
from speakerguard.errors import NotAudioError, TruncatedAudioError
from speakerguard.sound.sources import MAX_CHANNELS, MAX_RATE, Waveform, complain

INSTALL = "pip install 'speakerguard[formats]'"
FORMATS = (  # demuxers that are looked for, by FFmpeg's names; each reads one file and no other
    *("aac", "loas", "ac3", "eac3", "amr", "ape", "asf", "xwma", "avi", "caf", "flac", "flv"),
    *("matroska", "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mp3", "mpc", "mpc8"),
    *("mpeg", "mpegts", "ogg", "tta", "wv", "wav", "w64", "aiff", "au", "qcp", "tak", "dsf", "voc"),
)
CODECS = (  # decoders that may run: of audio, none of pictures
    *("aac", "aac_latm", "alac", "ac3", "eac3", "ape", "flac", "gsm", "gsm_ms", "mp1", "mp1float"),
    *("mp2", "mp2float", "mp3", "mp3float", "mpc7", "mpc8", "opus", "libopus", "vorbis"),
    *("libvorbis", "speex", "libspeex", "tta", "tak", "wavpack", "wmav1", "wmav2", "wmapro"),
    *("wmalossless", "wmavoice", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb"),
    *("g722", "g723_1", "g726", "g726le", "g729", "qcelp", "evrc", "adpcm_ima_wav", "adpcm_ms"),
    *("adpcm_ima_qt", "adpcm_g722", "adpcm_swf", "adpcm_yamaha", "nellymoser", "truespeech"),
    *("pcm_s8", "pcm_u8", "pcm_alaw", "pcm_mulaw", "pcm_s16le", "pcm_s16be", "pcm_s24le"),
    *("pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)
_MISSING = 0.15  # seconds less than declared, or that share of a hundredth, are codec delay
_IDLE = 10_000  # packets in a row that give no sound, after which no more is expected


def installed() -> bool:
    """Whether the optional package is there."""
    return importlib.util.find_spec("av") is not None


def _pyav() -> Any:
    """The package, kept from writing lines of its own on standard error."""
    av, logging = importlib.import_module("av"), importlib.import_module("av.logging")
    logging.set_level(logging.PANIC)
    logging.set_libav_level(logging.PANIC)
    return av


class AvSound:
    """One stream of sound, read as soundfile's are.

    Attributes:
        samplerate, channels, format, frames: as those of :class:`soundfile.SoundFile`; ``frames``
            is 0, since lengths are compared here.
        several: how many streams of sound there are.
    """

    frames = 0

    def __init__(self, name: str, container: Any, file: Any) -> None:
        self.name, self.container, self.file = name, container, file
        self.several = len(container.streams.audio)
        stream = self.stream = container.streams.audio[0]
        self.format = f"FFmpeg's {container.format.name}"
        codec = stream.codec_context  # None where there is no decoder
        self.samplerate = int(codec.sample_rate or 0) if codec else 0
        self.channels = int(codec.channels or 0) if codec else 0
        self._frames = self._decoded()
        self._waiting: list[Waveform] = []
        self._got = 0

    def __enter__(self) -> AvSound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._frames.close()
        self.container.close()

    def read(self, count: int, dtype: str = "float32", always_2d: bool = True) -> Waveform:
        """The next ``count`` samples a channel, fewer at the end: float32 (n, channels).

        Raises:
            TruncatedAudioError: it is damaged, or ends before it says.
        """
        have = sum(map(len, self._waiting))
        while have < count and (more := next(self._frames, None)) is not None:
            self._waiting.append(more)
            have += len(more)
        if not self._waiting:
            return np.zeros((0, self.channels), np.float32)
        joined = np.concatenate(self._waiting)
        self._waiting = [joined[count:]] if len(joined) > count else []
        return joined[:count]

    def _decoded(self) -> Generator[Waveform, None, None]:
        av = _pyav()

        idle = 0
        try:
            for packet in self.container.demux(self.stream):
                frames = packet.decode()
                idle = 0 if frames else idle + 1
                if idle > _IDLE:
                    raise self._damaged()
                for frame in frames:
                    if frame.sample_rate != self.samplerate or len(frame.layout.channels) != (
                        self.channels
                    ):
                        raise NotAudioError(
                            f"{self.name}: its rate or channels change on the way. Convert it to "
                            "WAV."
                        )
                    self._got += frame.samples
                    yield _samples(frame, self.channels)
        except (av.FFmpegError, ValueError) as error:
            complain(self.file, self.name)
            raise self._damaged() from error
        complain(self.file, self.name)
        if self._short():
            raise self._damaged()

    def _short(self) -> bool:
        """Whether less came than the container declares; recordings of browsers declare nothing."""
        declared = 0.0
        if self.stream.duration and self.stream.time_base:
            declared = float(self.stream.duration * self.stream.time_base)
        elif self.container.duration and self.container.duration > 0:
            declared = self.container.duration / 1e6
        if self.container.format.name in ("aac", "amr", "mp3", "loas"):  # only estimated
            return False
        return self._got / self.samplerate < declared - max(_MISSING, 0.01 * declared)

    def _damaged(self) -> TruncatedAudioError:
        return TruncatedAudioError(
            f"{self.name}: the file is cut off or damaged: its header and the audio in it do not "
            "agree. Copy it again, or convert it to WAV."
        )


def open_sound(name: str, file: Any, size: int) -> AvSound | None:
    """The sound in ``file``, of ``size`` bytes; None: it is none of :data:`FORMATS`, or there is
    no PyAV.

    Raises:
        NotAudioError: there is video alone, or sound of a kind that is not decoded.
        TruncatedAudioError: the file ends before its container says.
    """
    if not installed():
        return None
    if cut_off(file, size):
        raise TruncatedAudioError(
            f"{name}: the file is cut off: its container says that it is longer. Copy it again."
        )
    av = _pyav()
    view = Pieces(file, [(0, size)])
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "none",
        "probesize": str(1 << 20),  # bytes that are looked at before the first sample
        "analyzeduration": "2000000",  # and microseconds
    }
    try:
        container = av.open(view, "r", options=options, metadata_errors="ignore")
    except (av.FFmpegError, ValueError, OverflowError, MemoryError):
        complain(view, name)
        return None
    try:
        if not container.streams.audio:
            raise NotAudioError(f"{name}: holds no sound. Record it with a microphone.")
        sound = AvSound(name, container, view)
        if not 0 < sound.samplerate <= MAX_RATE or not 0 < sound.channels <= MAX_CHANNELS:
            raise NotAudioError(
                f"{name}: cannot be decoded as audio (no decoder for its kind). Convert it to WAV "
                "or FLAC."
            )
    except BaseException:
        container.close()
        raise
    sound.stream.codec_context.thread_count = 1
    return sound


def _samples(frame: Any, channels: int) -> Waveform:
    """A frame's samples, (n, channels), full scale 1."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - np.float32(128)) / np.float32(128)
    if array.dtype.kind == "i":
        return np.divide(array, -float(np.iinfo(array.dtype).min), dtype=np.float32)
    return array.astype(np.float32)
