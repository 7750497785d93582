"""How every program here ends: an exit code, and on standard error what to do.

0 is success, 1 an answer of no (a rejection); errors have codes of their own, see
:mod:`speakerguard.errors`; 70 is a defect, 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import traceback
from collections.abc import Iterator

from speakerguard.errors import BUG, SpeakerguardError, UsageError, printable, printable_lines
from speakerguard.extras import named

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


@contextlib.contextmanager
def ending(
    program: str, after_stop: str = "the same command goes on", command: str | None = None
) -> Iterator[None]:
    """Turn errors and Ctrl-C into one line on standard error and an exit code.

    An error nobody foresaw ends in a traceback and 70, so that it is never taken for a rejection.
    When ``| head`` has seen enough, the program ends quietly.

    Args:
        after_stop: what Ctrl-C leaves, or how to go on.
        command: by which a missing extra is named; the program itself unless told.

    >>> with ending("advgan-x"):
    ...     raise UsageError("no such file.")
    Traceback (most recent call last):
    SystemExit: 2
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where whoever called has closed it
            stream.reconfigure(errors="backslashreplace")
    try:
        with named(program if command is None else command):
            yield
    except SpeakerguardError as error:
        print(f"{program}: {printable_lines(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        advice = "Check the path, its permissions and the disk."
        print(f"{program}: {printable(error)}. {advice}", file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except KeyboardInterrupt:
        print(f"{program}: stopped; {after_stop}.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception:  # nobody foresaw it
        traceback.print_exc()
        sys.exit(BUG)
