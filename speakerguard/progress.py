"""How far some work is, and how long the rest of it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], None]  # takes a line for whoever waits
Progress = Callable[[int, int], None]  # takes what is done, and what there is to do


class TimeLeft:
    """Told by the pace of this run; what an earlier one did took no time of it.

    Args:
        before: of the work, done by earlier runs.
    """

    def __init__(self, before: int = 0) -> None:
        self._began, self._before = time.monotonic(), before

    def seconds(self, done: int, total: int) -> float:
        """That the rest of ``total`` takes, when ``done`` of it is done, earlier runs' included."""
        pace = (time.monotonic() - self._began) / max(1, done - self._before)
        return pace * (total - done)

    def __call__(self, done: int, total: int) -> str:
        """The same for a person, in minutes."""
        minutes = self.seconds(done, total) / 60
        return f"{minutes:.{0 if minutes >= 10 else 1}f} min left"


def each_tenth(report: Tell, what: object, before: int = 0) -> Progress:
    """Reports each tenth of the work, ``before`` of it done already, with the time left."""
    left, last = TimeLeft(before), 0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done * 10 // total > last:
            last = done * 10 // total
            report(f"{what}: {done}/{total}, {left(done, total)}")

    return progress
