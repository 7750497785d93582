"""Whether a container of films is cut off: MP4, Matroska, AVI, FLV and their kin, AAC and AMR.

FFmpeg reads what is there of them and says nothing. Sources: ISO 14496-12 section 4.2 (boxes),
RFC 8794 (EBML) and RFC 9559 (Matroska), ISO 13818-7 section 6.2 (ADTS), RFC 4867 section 5 (AMR),
ISO 13818-1 section 2.4.3 (transport streams), ISO 11172-3 section 2.4 (layer II), ATSC A/52
section 5.4.1 (AC-3).
"""

from __future__ import annotations

import os
from typing import Any

from speakerguard.decoding import mpeg

_MASTERS = {0x18538067, 0x1F43B675, 0xA0}  # Segment, Cluster, BlockGroup: looked into
_CLOSED = 1 << 62
_AMR = {  # bytes of a frame, by its type
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
_LAYER_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0)  # kbit/s
_AC3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
MOST = 200_000  # parts that are looked at: blocks of 20 ms for more than an hour


def cut_off(file: Any, size: int) -> bool:
    """Whether a part says that it goes on behind the end of the file, of ``size`` bytes."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _boxes(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _elements(file, size)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return _walk(file, size, 0, 7, lambda d: (d[3] & 3) << 11 | d[4] << 3 | d[5] >> 5)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        length = int.from_bytes(head[4:8], "little")
        return 0 < length < 2**31 - 1 and 8 + length > size
    if head[:3] == b"FLV":
        return _walk(file, size, 13, 11, lambda d: 15 + int.from_bytes(d[1:4], "big"))
    if head[:1] == b"G" and size > 188:
        file.seek(188)
        return bool(file.read(1) == b"G" and size % 188)
    if head[:2] == b"\x0b\x77" and len(head) > 5 and head[5] >> 3 <= 10:
        return _walk(file, size, 0, 6, _ac3)
    if mpeg.other_layer(head):
        return _walk(file, size, 0, 4, _layer2)
    for magic, lengths in _AMR.items():
        if head.startswith(magic):
            return _walk(file, size, len(magic), 1, lambda d, of=lengths: of[d[0] >> 3 & 15])
    return False


def _layer2(head: bytes) -> int:
    """Bytes of a frame of MPEG, layer II; 0 where none begins."""
    rate = mpeg.RATES.get(head[1] >> 3 & 3, ())[head[2] >> 2 & 3 : 1 + (head[2] >> 2 & 3)]
    if head[0] != 0xFF or head[1] >> 5 != 7 or head[1] >> 1 & 3 != 2 or not rate:
        return 0
    kbits = (_LAYER_2 if head[1] & 8 else (*mpeg.LATER, 0))[head[2] >> 4]
    return 144_000 * kbits // rate[0] + (head[2] >> 1 & 1)


def _ac3(head: bytes) -> int:
    """Bytes of a frame, 0 where none begins."""
    rate, code = head[4] >> 6, head[4] & 63
    if head[:2] != b"\x0b\x77" or rate == 3 or code >= 2 * len(_AC3):
        return 0
    kbits = _AC3[code // 2]
    return 2 * (2 * kbits, kbits * 320 // 147 + code % 2, 3 * kbits)[rate]


def _boxes(file: Any, size: int) -> bool:
    at, names = 0, set()
    for _ in range(MOST):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        names.add(head[4:8])
        at = size if length == 0 else at + length
        if 0 < length < 8:
            break
    else:
        return False
    return at > size or (b"mdat" in names and b"moov" not in names)


def _elements(file: Any, size: int) -> bool:
    """Whether an element of known length ends behind the file. A browser's have none on the
    outside, but each block in them has."""
    at = 0
    for _ in range(MOST):
        if at >= size:
            break
        file.seek(at)
        head = file.read(12)
        name, used = _number(head, keep=True)
        length, more = _number(head[used:], keep=False) if used else (0, 0)
        if not used or not more:
            return len(head) < 12  # the beginning of one, or nothing that can be followed
        at += used + more
        if length is None or (name in _MASTERS and at + length <= size):
            continue
        at += length
    return at > size


def _number(data: bytes, keep: bool) -> tuple[int | None, int]:
    """A number of variable length, and its bytes, 0 if there are too few; None: left open."""
    if not data or not data[0]:
        return 0, 0
    count = 9 - data[0].bit_length()
    if len(data) < count:
        return 0, 0
    value = int.from_bytes(data[:count], "big")
    if keep:
        return value, count
    value &= (1 << 7 * count) - 1
    return (None if value == (1 << 7 * count) - 1 else value), count


def _walk(file: Any, size: int, at: int, head: int, length: Any) -> bool:
    """Whether the last of frames, each of which begins with its length, is incomplete."""
    file.seek(0, os.SEEK_SET)
    data = file.read(size)
    for _ in range(MOST):
        if at + head > size:
            return at != size and not data[at:].startswith((b"TAG", b"APE"))
        step = length(data[at : at + head])
        if step < head or (head == 7 and data[at] != 0xFF):
            return False  # a tag, or nothing that can be followed
        at += step
    return False
