"""What the attacker's commands share: work spread over processes, and how those end."""

import math
import os
import time
from multiprocessing import active_children

import pytest

from advgan.command import Parser, work
from speakerguard.errors import UsageError


def test_options_are_quoted_without_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser(prog="advgan-x").parse_args(["--\x1b[2J"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --\\x1b[2J\n")


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
