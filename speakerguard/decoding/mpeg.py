"""The frames of an MP3 file, counted: how long it is, whether it was cut off, and what is no audio.

libsndfile guesses the length of a file that does not state it from its first frame, reads no
further than that, and complains on standard error of what lies between and behind the frames. So
it is given the frames alone, behind one that states their number. Sources: ISO 11172-3 section
2.4, ISO 13818-3, and for the frame that states a length the Xing tag as encoders write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from speakerguard.decoding.pieces import Piece, Pieces

MOST_BYTES = 256 << 20  # of a file whose frames are counted; days of speech

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_FIRST = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, MPEG 1
LATER = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG 2 and 2.5
_SAME = 0xFFFE0C00  # of a header: sync, version, layer and rate, which a file keeps
_GAP = 1 << 16  # bytes of junk, at most, before the first frame
_TAGS = 64  # in a row
_ZEROS, _LYRICS = re.compile(rb"\0*"), re.compile(rb"LYRICS(END|200)")


@dataclass(frozen=True)
class Header:
    """Of one frame: its bytes, those before its audio, and itself."""

    length: int
    side: int
    word: int


@dataclass
class Frames:
    """Those of a file.

    Attributes:
        runs: stretches of frames of sound, (start, stop).
        count: how many frames of sound.
        stating: frames that state a length, (start, stop), and the number of frames each states.
        whole: nothing is cut off, or lost on the way.
        bitrates: of the frames of sound, as headers number them.
    """

    runs: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0
    stating: list[tuple[int, int, int]] = field(default_factory=list)
    whole: bool = True
    bitrates: set[int] = field(default_factory=set)

    def add(self, start: int, header: Header) -> None:
        stop = start + header.length
        self.count += 1
        self.bitrates.add(header.word >> 12 & 15)
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1] = self.runs[-1][0], stop
        else:
            self.runs.append((start, stop))


def mended(handle: BinaryIO, size: int) -> tuple[Pieces | None, bool] | None:
    """What a decoder should be given, and whether the file is whole.

    Tags before, between and behind the frames are passed over, as is junk before the first. Of
    files put one behind the other, all is read.

    Returns:
        The frames alone, or None where the file can be read as it is; or nothing at all, where
        its frames cannot be followed: other layers, free bit rates, more than
        :data:`MOST_BYTES`.
    """
    if size > MOST_BYTES:
        return None
    handle.seek(0)
    data = handle.read(size)
    found = _frames(data)
    if not found.count:
        return None
    stated = [number for *_, number in found.stating if number]
    # encoders may count the frame that states the number as well
    whole = found.whole and sum(stated) <= found.count + len(stated)
    first, last = found.runs[0][0], found.runs[-1][1]
    tagged = data[:3] in (b"APE", b"TAG", b"LYR")  # of tags in front libsndfile knows ID3 alone
    if len(found.stating) == 1 == len(stated) and stated[0] >= found.count - 1:
        start, stop, _ = found.stating[0]
        if stop == first and len(found.runs) == 1 and len(data) - last <= 128 and not tagged:
            return None, whole
        return Pieces(handle, [(start, stop), *found.runs]), whole
    if not found.stating and len(found.bitrates) == 1:  # a constant rate needs no statement
        pieces: list[Piece] = _without_orphans(data, found.runs)
        plain = pieces == found.runs and len(pieces) == 1 and len(data) - last <= 128
        return None if plain and not tagged else Pieces(handle, pieces), whole
    return Pieces(handle, [_statement(data, found), *_without_orphans(data, found.runs)]), whole


def _frames(data: bytes) -> Frames:
    found, kept = Frames(), 0
    for start, header in _walk(data):
        if header is None:  # junk
            found.whole = not _begins(data, start, kept) and _first(data, start) == len(data)
            break
        stop, kept = start + header.length, header.word & _SAME
        if stop > len(data):
            found.whole = False
            break
        number = _stated(data, start, header)
        if number is None:
            found.add(start, header)
        else:
            found.stating.append((start, stop, number))
    return found


def _walk(data: bytes) -> Iterator[tuple[int, Header | None]]:
    """Where each frame starts, and its header; at last where junk does, if any, and None."""
    at = _first(data, 0)
    kept = _word(data, at) & _SAME
    while (at := behind_tags(data, at)) < len(data):
        word = _word(data, at)
        header = parse(word) if word & _SAME == kept else None
        yield at, header
        if header is None:
            return
        at += header.length


def _first(data: bytes, start: int) -> int:
    """Where, from ``start`` on, a frame begins that another follows, or the end of the file."""
    start = at = behind_tags(data, start)
    while (at := data.find(b"\xff", at, start + _GAP)) >= 0:
        word = _word(data, at)
        if header := parse(word):
            after = at + header.length
            following = _word(data, after)
            if following & _SAME == word & _SAME and parse(following):
                return at
            if after == len(data) or (after < len(data) and behind_tags(data, after) > after):
                return at
        at += 1
    return len(data)


def _begins(data: bytes, at: int, kept: int) -> bool:
    """Whether what is left, less than a header, may be one's beginning."""
    left = data[at : at + 4]
    return 0 < len(left) < 4 and kept.to_bytes(4, "big")[:1] == left[:1]


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


@lru_cache(1 << 12)
def parse(word: int) -> Header | None:
    """What four bytes say, where they are the header of a frame of layer III.

    >>> parse(0xFFFB9064).length  # 128 kbit/s at 44.1 kHz
    417
    """
    version, bitrate, rate = word >> 19 & 3, word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or word >> 17 & 3 != 1 or rate == 3:
        return None
    if bitrate in (0, 15):
        return None
    first, mono = version == 3, word >> 6 & 3 == 3
    bits = 1_000 * (_FIRST if first else LATER)[bitrate]
    length = (144 if first else 72) * bits // RATES[version][rate] + (word >> 9 & 1)
    return Header(length, 4 + ((17 if mono else 32) if first else (9 if mono else 17)), word)


def _stated(data: bytes, start: int, header: Header) -> int | None:
    """Frames that this one says follow, 0 where it leaves that open; None: it is one of sound."""
    for at in (start + header.side, start + header.side + 2):  # behind a checksum
        if data[at : at + 4] in (b"Xing", b"Info"):
            return _word(data, at + 8) if data[at + 7] & 1 else 0
    if data[start + 36 : start + 40] == b"VBRI":
        return _word(data, start + 50)
    return None


def _statement(data: bytes, found: Frames) -> bytes:
    """A frame without sound that states how many follow, and their bytes."""
    word = _word(data, found.runs[0][0]) | 1 << 16  # without a checksum
    made = (parse(word & ~0xF200 | bitrate << 12) for bitrate in range(1, 15))
    header = next(made for made in made if made and made.length >= made.side + 16)
    total = header.length + sum(stop - start for start, stop in found.runs)
    said = b"Xing" + b"".join(n.to_bytes(4, "big") for n in (3, found.count, total))
    body = header.word.to_bytes(4, "big") + bytes(header.side - 4) + said
    return body.ljust(header.length, b"\0")


def _without_orphans(data: bytes, runs: list[tuple[int, int]]) -> list[Piece]:
    """``runs``, but the first frames are emptied if what they lean on was cut away before them.

    They keep their audio data, on which the next may lean.
    """
    start, stop = runs[0]
    pieces: list[Piece] = []
    at, behind = start, 0
    while at < stop and len(pieces) < 20:
        header = parse(_word(data, at))
        assert header is not None
        long = header.word >> 19 & 3 == 3  # MPEG 1 says it in 9 bits, MPEG 2 in 8
        leans = _word(data, at + 4) >> (23 if long else 24)
        if leans <= behind or not header.word >> 16 & 1:
            break
        pieces += [(at, at + 4), bytes(header.side - 4), (at + header.side, at + header.length)]
        behind += header.length - header.side
        at += header.length
    return [*pieces, (at, stop), *runs[1:]]


def other_layer(head: bytes) -> bool:
    """Whether a frame of layer I or II begins here, of which libsndfile reads one."""
    return len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0 and head[1] >> 1 & 3 > 1


def id3_length(head: bytes) -> int:
    """Bytes of an ID3v2 tag, by its first ten."""
    if len(head) < 10:
        return 10
    length = sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
    return 10 + length + 10 * bool(head[5] & 16)  # a footer


def behind_tags(data: bytes, at: int) -> int:
    """Where what is no audio ends: ID3v2, ID3v1, APE and Lyrics3 tags, zeros that fill up."""
    before = -1
    for _ in range(_TAGS):
        if before == at or at >= len(data):
            break
        before = at
        if data[at : at + 3] == b"ID3":
            at += id3_length(data[at : at + 10])
        elif data[at : at + 8] == b"APETAGEX":
            header = _word(data[at + 20 : at + 24][::-1], 0) & 1 << 29  # or a footer alone
            at += 32 + (_word(data[at + 12 : at + 16][::-1], 0) if header else 0)
        elif data[at : at + 3] == b"TAG":
            at += 128
        elif data[at : at + 11] == b"LYRICSBEGIN":
            end = _LYRICS.search(data, at + 11)
            at = end.end() if end else len(data)
        elif zeros := _ZEROS.match(data, at):
            at = zeros.end()
    return min(at, len(data))
