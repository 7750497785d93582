"""Is a file whole? Told from its container, before anything is decoded.

libsndfile reads what is there and does not say what is missing; and where a header leaves the
length open, or says 0 since its recorder died, it reads nothing or gives up. Here the length that
a container states is compared with the file, and an open one filled in.

To the byte: WAV, RIFX, RF64, W64, AIFF, 8SVX, AU, SPHERE, CAF, VOC, AVR, MPC 2000, MAT 4 and 5,
WVE, FLAC, Ogg and MP3 (which, where it states no length, and cut exactly between two frames, cannot
be told from one that ends there; nor can FLAC of unknown length or Ogg without an end mark). PAF,
PVF and IRCAM state no length that could be compared; it is said of these that their end is open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal, cast

from speakerguard.decoding import flac, mpeg, ogg
from speakerguard.decoding.pieces import Pieces, patched

Order = Literal["big", "little"]

_ENDLESS = {b" paf", b"fap ", b"PVF1"} | {  # and IRCAM of four machines, in either order
    bytes(magic[::step])
    for n in range(1, 5)
    for magic in [b"\x64\xa3" + bytes([n, 0])]
    for step in (1, -1)
}


@dataclass(frozen=True)
class Mended:
    """What to decode in place of a file.

    Attributes:
        whole: nothing that was written is known to be missing.
        views: to be decoded one after the other; none where the file can be read as it is.
        open_end: the file does not say where it ends, so what is there was taken for all.
        more: another file lies behind this one, and is not read.
    """

    whole: bool = True
    views: tuple[Pieces, ...] = ()
    open_end: bool = False
    more: bool = False


@dataclass(frozen=True)
class _Samples:
    """Where a header says they lie: their first byte, how many, and the fields that say it.

    Attributes:
        fields: places, widths in bytes and what to write there if ``length`` is open (None).
    """

    start: int
    length: int | None
    fields: Sequence[tuple[int, int, int]] = ()
    order: Order = "little"


def mend(handle: BinaryIO, size: int) -> Mended:
    """Look through a file of ``size`` bytes; what is in no known container passes."""
    handle.seek(0)
    head = handle.read(64)
    start = mpeg.id3_length(head[:10]) if head[:3] == b"ID3" else 0
    handle.seek(start)
    inner = handle.read(4) if start else head[:4]
    if start and inner in (b"RIFF", b"RF64", b"FORM"):  # a tag where none belongs
        behind = Pieces(handle, [(start, size)])
        mended = mend(cast(BinaryIO, behind), size - start)
        return replace(mended, views=mended.views or (behind,))
    if mpeg.other_layer(inner):
        return Mended()
    if inner == b"fLaC":
        return Mended(*flac.mended(handle, start, size), more=flac.another(handle, start, size))
    if inner == b"OggS":
        return Mended(*ogg.mended(handle, size))
    zeros = head[:1] == b"\0" and head[20:30] != b"samplerate"
    if head[:3] in (b"ID3", b"TAG", b"APE") or head[:1] == b"\xff" or zeros:
        view, whole = mpeg.mended(handle, size) or (None, True)
        return Mended(whole, (view,) if view else ())
    if head[:4] in _ENDLESS:
        return Mended(open_end=True)
    found = _samples(handle, head, size)
    if found is None:
        return Mended()
    if found.length is not None:
        end = found.start + found.length
        handle.seek(min(end + end % 2, size))
        return Mended(end <= size, more=handle.read(4) == head[:4])
    fields = [
        (place, min(value, 256**width - 1).to_bytes(width, found.order))
        for place, width, value in found.fields
    ]
    return Mended(True, (patched(handle, size, fields),) if fields else (), open_end=True)


def unknown(length: int) -> bool:
    """Whether a WAV header's length of samples is what recorders write before they know it."""
    return length & 0x7FFF_0000 == 0x7FFF_0000 or length == 0x8000_0000


def _samples(handle: BinaryIO, head: bytes, size: int) -> _Samples | None:
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return _riff(handle, head, size)
    if kind == b"riff":
        return _wave64(handle, size)
    if kind == b"caff":
        return _core_audio(handle, size)
    if kind in (b".snd", b"dns."):
        order: Order = "big" if kind == b".snd" else "little"
        start, length = (int.from_bytes(head[i : i + 4], order) for i in (4, 8))
        return _open(start, length, size, [(8, 4, size - start)], order, length == 0xFFFF_FFFF)
    if kind == b"NIST":
        return _sphere(handle)
    if kind == b"Crea":
        return _creative_voice(handle, int.from_bytes(head[20:22], "little"), size)
    if kind == b"2BIT":
        channels = 2 if head[12:14] != b"\0\0" else 1
        width = int.from_bytes(head[14:16], "big") // 8
        return _Samples(128, int.from_bytes(head[26:30], "big") * channels * width)
    if kind == b"MATL":
        return _matlab5(handle)
    if head[20:31] == b"samplerate\0":
        return _matlab4(handle, head)
    if head[:16] == b"ALawSoundFile**\0":
        return _Samples(32, int.from_bytes(head[18:22], "big"))
    if kind[:2] == b"\x01\x04" and len(head) >= 42:
        return _Samples(42, int.from_bytes(head[30:34], "little") * 2 * (1 + (head[21] & 1)))
    return None


def _open(
    start: int,
    length: int,
    size: int,
    fields: Sequence[tuple[int, int, int]],
    order: Order,
    unknown: bool,
) -> _Samples:
    """A length of 0 is an open one, if something follows."""
    if unknown or (length == 0 and size > start):
        return _Samples(start, None, fields if size > start else (), order)
    return _Samples(start, length, (), order)


def _riff(handle: BinaryIO, head: bytes, size: int) -> _Samples | None:
    order: Order = "big" if head[:4] in (b"FORM", b"RIFX") else "little"
    large: tuple[int, int] | None = None
    for name, start, length in _chunks(handle, 12, 4, order):
        if name == b"ds64":  # RF64: the length of data, where 32 bits cannot hold it
            large = start + 8, int.from_bytes(handle.read(16)[8:16], "little")
        elif name in (b"data", b"SSND", b"BODY"):
            if large and unknown(length):
                fields = [(4, 4, 2**32), (large[0], 8, size - start)]
                is_open = large[1] == 0 or large[1] >= 2**63 - 2**33
                return _open(start, large[1], size, fields, order, is_open)
            if length == 0 and _only_chunks(handle, start, size, order):
                return _Samples(start, 0)
            empty = 8 if name == b"SSND" else 0  # offset and block size belong to its length
            length = max(0, length - empty) if length <= empty else length
            fields = [(4, 4, size - 8), (start - 4, 4, size - start)]
            guessed = unknown(length) or (name == b"SSND" and length >> 24 == 0x7F)  # sox
            is_open = guessed and start + length > size
            return _open(start, length, size, fields, order, is_open)
    return None


def _only_chunks(handle: BinaryIO, start: int, size: int, order: Order) -> bool:
    """Whether, from ``start`` on, other chunks fill the file: then there are no samples."""
    end = start
    for name, begin, length in _chunks(handle, start, 4, order):
        if not (name.isascii() and name.decode().isprintable()):
            return False
        end = begin + length
    return size <= end + end % 2 <= size + 1


def _wave64(handle: BinaryIO, size: int) -> _Samples | None:
    for name, start, length in _chunks(handle, 40, 16, "little"):
        if name[:4] == b"data":
            is_open = length <= 0 or length >= 2**63 - 2**33
            fields = [(16, 8, size), (start - 8, 8, size - start + 24)]
            return _open(start, max(0, length), size, fields, "little", is_open and size > start)
    return None


def _core_audio(handle: BinaryIO, size: int) -> _Samples | None:
    for name, start, length in _chunks(handle, 8, 4, "big", 8):
        if name == b"data":
            is_open = length >= 2**63 - 2**33  # -1: whatever follows
            return _open(start, length, size, [(start - 8, 8, size - start)], "big", is_open)
    return None


def _chunks(
    handle: BinaryIO, at: int, name: int, order: Order, width: int = 4
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte of the contents and their length; of W64, names of 16 bytes, lengths of 8
    that count what stands before."""
    large = name == 16
    width = 8 if large else width
    end = handle.seek(0, os.SEEK_END)
    while at < end:
        handle.seek(at)
        head = handle.read(name + width)
        if len(head) < name + width:
            return
        start = at + name + width
        length = int.from_bytes(head[name:], order) - (start - at if large else 0)
        yield head[:name], start, length
        if length < 0 or length >= 2**62:
            return
        at = start + length + (-length % 8 if large else length % 2 if width == 4 else 0)


def _sphere(handle: BinaryIO) -> _Samples | None:
    handle.seek(0)
    head = handle.read(1 << 16)
    said = {}
    for line in head.split(b"end_head")[0].splitlines():
        words = line.split()
        if len(words) >= 3 and words[1][:2] in (b"-i", b"-s") and words[2].isdigit():
            said[words[0]] = int(words[2][:18])
    counts = [said.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    first = head.splitlines()[1:2]
    if None in counts or not first or not first[0].strip().isdigit():
        return None
    length = 1
    for count in counts:
        length *= count or 0
    return _Samples(int(first[0].strip()[:9]), length)


def _creative_voice(handle: BinaryIO, at: int, size: int) -> _Samples:
    """Blocks one after the other, each with its length; the last may say that it is the last."""
    end = at
    while True:
        handle.seek(end)
        head = handle.read(4)
        if len(head) < 4 or head[0] == 0 or size - end <= 12:  # sox counts 8 too few
            return _Samples(at, min(end, size) - at)
        end += 4 + int.from_bytes(head[1:], "little")
        if end > size:
            return _Samples(at, end - at)


def _matlab4(handle: BinaryIO, head: bytes) -> _Samples | None:
    """Two matrices: the rate, and the samples."""
    order: Order = "big" if head[2:4] == b"\x03\xe8" else "little"
    start = at = 0
    for name in (b"samplerate\0", b"wavedata\0"):
        handle.seek(at)
        fields = handle.read(20 + len(name))
        if fields[20:] != name:
            return None
        kind, rows, columns = (int.from_bytes(fields[i : i + 4], order) for i in (0, 4, 8))
        width = {0: 8, 3: 2, 4: 2, 5: 1}.get(kind % 100 // 10, 4)
        start, at = at + len(fields), at + len(fields) + rows * columns * width
    return _Samples(start, at - start)


def _matlab5(handle: BinaryIO) -> _Samples | None:
    """The samples' length stands behind their name and their kind."""
    handle.seek(0)
    head = handle.read(1 << 10)
    order: Order = "little" if head[126:128] == b"IM" else "big"
    at = head.find(b"wavedata") + 12
    return _Samples(at + 4, int.from_bytes(head[at : at + 4], order)) if at >= 140 else None
