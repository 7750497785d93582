"""FLAC that does not say how long it is, as written to a pipe: told from its last frame.

Source: RFC 9639, sections 8.2 (stream info) and 9.1 (frame headers).
"""

from __future__ import annotations

from typing import BinaryIO

from speakerguard.decoding.checksum import crc
from speakerguard.decoding.pieces import Pieces, patched

_TAIL = 4 << 20  # bytes in which the last frame is sought; one has at most half of that
MOST_BYTES = 256 << 20  # of a file in which another is sought
_TRIES = 16  # of what looks like the header of a frame


def mended(handle: BinaryIO, start: int, size: int) -> tuple[bool, tuple[Pieces, ...]]:
    """Whether the stream that begins ``start`` is whole, and one that says how long it is.

    A length that is stated is for the decoder to check.
    """
    handle.seek(start)
    head = handle.read(42)
    if len(head) < 42 or head[4] & 127 or int.from_bytes(head[21:26], "big") & (1 << 36) - 1:
        return True, ()
    total = _samples(handle, start + 42, size, int.from_bytes(head[10:12], "big"))
    if total is None:
        return False, ()
    said = (int.from_bytes(head[21:26], "big") | total & (1 << 36) - 1).to_bytes(5, "big")
    return True, (patched(handle, size, [(start + 21, said)]),)


def another(handle: BinaryIO, start: int, size: int) -> bool:
    """Whether a second file lies behind the one that begins at ``start``."""
    handle.seek(start)
    head = handle.read(8)
    return size <= MOST_BYTES and head[5:] == b"\0\0\x22" and head in handle.read(size)


def _samples(handle: BinaryIO, start: int, size: int, block: int) -> int | None:
    """Samples up to the end of the last frame; None: it is cut off, or there is none."""
    begin = max(start, size - _TAIL)
    handle.seek(begin)
    data = handle.read(size - begin)
    if data[-128:-125] == b"TAG":  # ID3v1
        data = data[:-128]
    at, tries, left = len(data), 0, _TAIL
    while tries < _TRIES and left > 0 and (at := data.rfind(b"\xff", 0, at)) >= 0:
        found = _header(data[at : at + 16])
        if found is None:
            continue
        tries, left = tries + 1, left - (len(data) - at)
        if crc(data[at:], 0x8005, 16) == 0:
            number, own, variable = found
            return number + own if variable else number * block + own
    return None


def _header(data: bytes) -> tuple[int, int, bool] | None:
    """Number of the frame (or of its first sample), its samples, and which of the two it is."""
    if len(data) < 6 or data[1] & 0xFE != 0xF8:
        return None
    size, rate = data[2] >> 4, data[2] & 15
    if size == 0 or rate == 15 or data[3] >> 4 > 10 or data[3] & 1:
        return None
    ones = 8 - (data[4] ^ 0xFF).bit_length()  # of the number, coded like UTF-8
    if ones == 1 or ones > 7:
        return None
    at = 4 + max(1, ones)
    number = data[4] & (0x7F >> ones if ones else 0x7F)
    for byte in data[5:at]:
        number = number << 6 | byte & 63
    extra = {6: 1, 7: 2}.get(size, 0)
    own = int.from_bytes(data[at : at + extra], "big") + 1
    if not extra:
        own = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(data) or crc(data[: at + 1], 0x07, 8):
        return None
    return number, own, bool(data[1] & 1)
