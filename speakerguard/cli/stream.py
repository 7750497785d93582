"""What ``verify --stream`` shows while it listens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from speakerguard.errors import UsageError

if TYPE_CHECKING:
    from speakerguard.verification.answers import Verification
    from speakerguard.verification.verifier import Verifier


def follow(
    verifier: Verifier,
    name: str,
    source: str,
    point: str | float | None,
    told: Callable[[Any], Any] | None = None,
) -> Verification:
    """Listen to ``-`` (a pipe) or ``mic`` until it ends or Ctrl-C; a line a provisional answer.

    Args:
        told: makes of a source one that is read as it should be: which channel, what samples.

    Raises:
        AudioError: what came cannot be judged.
        UsageError: another source, no microphone, or standard input is closed.
    """
    from speakerguard.sound.audio import SAMPLE_RATE, Reading
    from speakerguard.sound.pipe import read_microphone, read_pipe

    how = told(source) if told else source
    how = how if isinstance(how, Reading) else Reading(source)
    if source == "-":
        if sys.stdin is None:
            raise UsageError("-: standard input is closed. Pipe a recording in, or use mic.")
        rate, blocks = read_pipe(sys.stdin.buffer, raw=how)
    elif source == "mic":
        rate, blocks = SAMPLE_RATE, read_microphone()
        print("speak; Ctrl-C ends", file=sys.stderr, flush=True)
    else:
        raise UsageError(f"{source}: --stream listens to - (a pipe) or mic, not to a file.")
    stream = verifier.stream(name, rate, point, how.channel)
    try:
        for block in blocks:
            if answer := stream.add(block):
                so_far = "accept" if answer.accepted else "reject"
                print(
                    f"  {answer.net_seconds:5.1f} s  {answer.score:+.3f}  {so_far} so far",
                    file=sys.stderr,
                    flush=True,
                )
            if stream.full:
                break
    except KeyboardInterrupt:
        pass
    return stream.finish()
