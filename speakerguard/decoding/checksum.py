"""Checksums that the standard library lacks: CRCs most significant bit first, as FLAC and Ogg."""

from __future__ import annotations

import functools


def crc(data: bytes | bytearray, polynomial: int, bits: int) -> int:
    """Remainder of ``data``; 0 where its checksum stands behind it and is right.

    >>> hex(crc(b"123456789", 0x8005, 16))
    '0xfee8'
    """
    table, shift, mask, value = _table(polynomial, bits), bits - 8, (1 << bits) - 1, 0
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> shift ^ byte]
    return value


@functools.cache
def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    made = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        made.append(value)
    return tuple(made)
