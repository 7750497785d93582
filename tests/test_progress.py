"""Time left is told by what this run did."""

import time

import pytest

from speakerguard.progress import TimeLeft, each_tenth


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows; to be set."""
    shown = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: 60 * shown[0])
    return shown


def test_what_an_earlier_run_did_took_no_time_of_this_one(minutes: list[float]) -> None:
    told: list[str] = []
    progress = each_tenth(told.append, "crops", before=500)
    minutes[0] = 1
    progress(600, 1000)
    progress(610, 1000)
    minutes[0] = 10
    progress(700, 1000)
    assert told == ["crops: 600/1000, 4.0 min left", "crops: 700/1000, 15 min left"]


def test_it_shrinks_to_nothing(minutes: list[float]) -> None:
    left = TimeLeft()
    minutes[0] = 2
    assert left.seconds(0, 10) == 2 * 60 * 10  # nothing finished yet: no faster than this
    assert left(5, 10) == "2.0 min left"
    assert left(10, 10) == "0.0 min left"
