"""What the attacker's commands share: how they end, and how worker processes do."""

import math
import os
import time
from multiprocessing import active_children

import pytest

from advgan.command import INTERRUPTED, Parser, ending, work
from speakerguard.errors import BUG, AudioError, UsageError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("x.wav: no such file."), 2, "advgan-x: x.wav: no such file.\n"),
        (AudioError("x.wav: silent.\x1b[2J"), 3, "advgan-x: x.wav: silent.\\x1b[2J\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device. Check the path"),
        (KeyboardInterrupt(), INTERRUPTED, "advgan-x: stopped; all is kept.\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, ending("advgan-x", "all is kept"):
        raise error
    assert caught.value.code == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert not printed.out


def test_options_are_quoted_without_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser(prog="advgan-x").parse_args(["--\x1b[2J"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --\\x1b[2J\n")


def test_a_defect_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, ending("advgan-x"):
        raise ZeroDivisionError
    assert caught.value.code == BUG
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), ending("advgan-x"):
        raise UsageError("two things\none\x07\nother")
    assert capsys.readouterr().err == "advgan-x: two things\none\\x07\nother\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_has_its_result(workers: int) -> None:
    jobs = [float(n * n) for n in range(7)]
    assert dict(work(math.sqrt, jobs, workers)) == {job: math.sqrt(job) for job in jobs}


def test_a_killed_worker_is_an_error_with_advice() -> None:
    with pytest.raises(UsageError, match=r"a worker was killed.*smaller --njobs"):
        list(work(os._exit, [9, 9], 2))


def test_workers_end_with_the_loop() -> None:
    others = set(active_children())
    results = work(time.sleep, [0.0, 600.0, 600.0, 600.0], 2)
    assert next(results) == (0.0, None)
    assert set(active_children()) - others
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while set(active_children()) - others:
        assert time.monotonic() < deadline
        time.sleep(0.1)
