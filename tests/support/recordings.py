"""Encoded recordings for tests, and what befalls them on the way."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soundfile

from speakerguard.decoding.checksum import crc

Samples = npt.NDArray[np.float32]


def tone(seconds: float = 2.0, rate: int = 16_000, channels: int = 1) -> Samples:
    """0.3 sin(2π 440 t), louder and quieter by turns, and a little noise: (n, channels)."""
    time = np.arange(int(seconds * rate)) / rate
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(time))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 1.3 * time)
    mono = (0.3 * swell * np.sin(2 * np.pi * 440 * time) + noise).astype(np.float32)
    return np.stack([mono] * channels, axis=1)


def encode(format: str, subtype: str, samples: Samples | None = None, rate: int = 16_000) -> bytes:
    """``samples``, or a tone, as a file."""
    file = io.BytesIO()
    given = tone() if samples is None else samples
    soundfile.write(file, given, rate, format=format, subtype=subtype)
    return file.getvalue()


def pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each Ogg page starts and stops."""
    at = 0
    while data[at : at + 4] == b"OggS":
        count = data[at + 26]
        stop = at + 27 + count + sum(data[at + 27 : at + 27 + count])
        yield at, stop
        at = stop


def edited(data: bytes, page: int, place: int, what: bytes) -> bytes:
    """An Ogg file with other bytes in the header of one page, and its checksum right again."""
    start, stop = list(pages(data))[page]
    made = bytearray(data[start:stop])
    made[place : place + len(what)] = what
    made[22:26] = bytes(4)
    made[22:26] = struct.pack("<I", crc(made, 0x04C1_1DB7, 32))
    return data[:start] + bytes(made) + data[stop:]


def without_end_mark(data: bytes) -> bytes:
    """An Ogg file whose last page does not say that it is the last."""
    return edited(data, -1, 5, b"\0")


def apart(data: bytes, serial: int) -> bytes:
    """The same Ogg stream under another serial number."""
    for index in range(len(list(pages(data)))):
        data = edited(data, index, 14, struct.pack("<I", serial))
    return data


def ape_tag(size: int) -> bytes:
    """An APE tag with a header, as behind an MP3 file."""
    item = struct.pack("<II", size, 0) + b"Cover\0" + bytes([7]) * size
    fields = struct.pack("<III", 2_000, len(item) + 32, 1)
    head = b"APETAGEX" + fields + struct.pack("<I", 0xA000_0000) + bytes(8)
    return head + item + b"APETAGEX" + fields + struct.pack("<I", 0x8000_0000) + bytes(8)


def id3_tag(size: int) -> bytes:
    """An ID3v2 tag of ``size`` bytes."""
    parts = bytes(size >> 7 * i & 127 for i in (3, 2, 1, 0))
    return b"ID3\x04\0\0" + parts + b"\x07" * size


def bare_mp3(data: bytes) -> bytes:
    """An MP3 file without the frame that states its length."""
    return data[data.find(data[:2], 4) :]


def variable_mp3(seconds: float = 4.0) -> bytes:
    """Half of it quiet, half of it loud: frames of many lengths."""
    half = int(seconds * 8_000)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (half, 1)).astype(np.float32)
    return encode("MP3", "MPEG_LAYER_III", np.concatenate([0.01 * tone(seconds / 2), noise]))
