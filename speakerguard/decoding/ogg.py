"""Ogg pages: whether the last is complete, what lies one behind the other, and the mark of the end.

Source: RFC 3533, section 6. Recorders of telephones and messengers leave the end mark out, at
which libsndfile gives up; of streams put one behind the other ("chained") it reads the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from speakerguard.decoding.checksum import crc
from speakerguard.decoding.pieces import Piece, Pieces

MOST_BYTES = 256 << 20  # of a file whose pages are looked at
MOST_LINKS = 1_000  # streams one behind the other
MOST_PAGES = 250_000  # pages of 20 ms for more than an hour
_BEGIN, _END = 0x02, 0x04  # header type flags


@dataclass(frozen=True)
class _Page:
    start: int
    stop: int
    flags: int
    position: int
    finishes: bool


@dataclass
class _Link:
    """One of the streams that lie one behind the other; several may be side by side in it."""

    start: int
    pages: list[_Page] = field(default_factory=list)


def mended(handle: BinaryIO, size: int) -> tuple[bool, tuple[Pieces, ...], bool]:
    """Whether the file is whole; what to decode, if not the file; and whether its end is open.

    Whole is what ends with a complete page. A page that states no position though a packet ends
    on it is damage: decoders never come to an end of such streams. Files of more than
    :data:`MOST_BYTES`, or :data:`MOST_PAGES`, pass.
    """
    if size > MOST_BYTES:
        return True, (), False
    handle.seek(0)
    data = handle.read(size)
    links: list[_Link] = []
    for count, page in enumerate(_pages(data)):
        if count > MOST_PAGES:
            return True, (), False
        if page is None or (page.finishes and page.position >= 2**62):
            return not links, (), False  # what has not even a first page is for the decoder to name
        if not links or (page.flags & _BEGIN) > (links[-1].pages[-1].flags & _BEGIN):
            links.append(_Link(page.start))
        links[-1].pages.append(page)
    if not links:
        return True, (), False
    if len(links) > MOST_LINKS:
        return False, (), False
    last = links[-1].pages[-1]
    ended = [bool(link.pages[-1].flags & _END) for link in links]
    if not ended[-1] and data[last.stop :].strip(b"\0"):
        return False, (), False
    if all(ended) and len(links) == 1:
        return True, (), False
    views = tuple(_view(handle, data, link) for link in links)
    return True, views, not ended[-1]


def _view(handle: BinaryIO, data: bytes, link: _Link) -> Pieces:
    """One stream alone, with a mark at its end."""
    last = link.pages[-1]
    if last.flags & _END:
        return Pieces(handle, [(link.start, last.stop)])
    pieces: list[Piece] = [(link.start, last.start)]
    page = bytearray(data[last.start : last.stop])
    page[5] |= _END
    page[22:26] = bytes(4)
    page[22:26] = crc(page, 0x04C1_1DB7, 32).to_bytes(4, "little")
    return Pieces(handle, [*pieces, bytes(page)])


def _pages(data: bytes) -> Iterator[_Page | None]:
    """All pages; None for what is cut off, or lies between two and is none."""
    at = 0
    while data[at : at + 4] == b"OggS":
        count = data[at + 26] if at + 27 <= len(data) else 0
        lacing = data[at + 27 : at + 27 + count]
        stop = at + 27 + count + sum(lacing)
        if at + 27 > len(data) or stop > len(data):
            yield None
            return
        position = int.from_bytes(data[at + 6 : at + 14], "little")
        finishes = count > 0 and min(lacing) < 255
        yield _Page(at, stop, data[at + 5], position, finishes)
        at = stop
    left = data[at : at + 4]
    if data.find(b"OggS", at) >= 0 or (0 < len(data) - at < 4 and b"OggS".startswith(left)):
        yield None
