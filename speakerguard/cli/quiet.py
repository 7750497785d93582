"""Only this program's own words: C libraries have no say on standard output and standard error.

libsndfile, its MP3 decoder and others print there what they think of a damaged file, which
breaks ``--json``. A command line can keep its two streams to itself; a library in another's
process must not, so this is not done on import.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def own_words() -> None:
    """Give Python's two streams descriptors of their own, and let 1 and 2 lead nowhere.

    Streams that are not those of the process, as under a test runner, stay as they are.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stdout = _moved(sys.stdout, 1, nowhere)
        sys.stderr = _moved(sys.stderr, 2, nowhere)
    finally:
        os.close(nowhere)


def _moved(stream: Any, number: int, nowhere: int) -> Any:
    if not isinstance(stream, io.TextIOWrapper) or stream.closed or _descriptor(stream) != number:
        return stream
    stream.flush()
    kept = io.FileIO(os.dup(number), "w")
    os.dup2(nowhere, number)
    return io.TextIOWrapper(
        io.BufferedWriter(kept),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _descriptor(stream: io.TextIOWrapper) -> int:
    try:
        return stream.fileno()
    except OSError:
        return -1
