"""A file as it should have been written: stretches of it, and bytes put in their place.

Decoders are given one of these where a header has to be mended, where what lies around the audio
must not be seen, and for file objects of others, whose errors a C library would swallow.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Piece = bytes | tuple[int, int]  # bytes of its own, or a stretch of the file: start and stop


class Pieces(io.RawIOBase):
    """``pieces`` one after the other, to be read and sought in like a file.

    What ``handle`` raises meanwhile ends the reading as the file's end would, and is kept as
    :attr:`error`: called back from C, it could not be raised.

    >>> bytes(Pieces(io.BytesIO(b"0123456789"), [b"ab", (2, 5), (8, 10)]).read())
    b'ab23489'
    """

    def __init__(self, handle: BinaryIO, pieces: Sequence[Piece]) -> None:
        self.handle = handle
        self.error: BaseException | None = None
        self._pieces = [piece for piece in pieces if _length(piece) > 0]
        self._starts = list(accumulate(map(_length, self._pieces), initial=0))
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._starts[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._at < self.size and self.error is None:
            index = bisect_right(self._starts, self._at) - 1
            inside = self._at - self._starts[index]
            got = self._fetch(self._pieces[index], inside, len(view) - done)
            if not got:
                break
            view[done : done + len(got)] = got
            done += len(got)
            self._at += len(got)
        return done

    def _fetch(self, piece: Piece, inside: int, most: int) -> bytes:
        most = min(most, _length(piece) - inside)
        if isinstance(piece, bytes):
            return piece[inside : inside + most]
        try:
            self.handle.seek(piece[0] + inside)
            return bytes(self.handle.read(most) or b"")[:most]
        except BaseException as error:  # a Ctrl-C too: whoever reads looks at it and raises it
            self.error = error
            return b""


def patched(handle: BinaryIO, size: int, patches: Sequence[tuple[int, bytes]]) -> Pieces:
    """``handle``, of ``size`` bytes, with other bytes at some places, given in their order."""
    pieces: list[Piece] = []
    at = 0
    for place, data in patches:
        pieces += [(at, place), data]
        at = place + len(data)
    return Pieces(handle, [*pieces, (at, size)])


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
