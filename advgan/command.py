"""What the attacker's commands share: an option's type, and work spread over processes."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import active_children, get_context
from typing import NoReturn, TypeVar

from speakerguard.errors import UsageError, printable
from speakerguard.workers import begin_worker

_AHEAD = 2  # jobs that wait for each worker

Job = TypeVar("Job")
Result = TypeVar("Result")


class Parser(argparse.ArgumentParser):
    """Options whose errors, which quote what was given, can be shown on any terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def at_least(least: int) -> Callable[[str], int]:
    """An option's type: whole numbers from ``least`` on."""

    def number(text: str) -> int:
        if not least <= (value := int(text)) < 2**63:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and 2**63")
        return value

    return number


def one_thread() -> None:
    """The same sums in the same order, however many processes there are; for a whole program."""
    import torch

    torch.set_num_threads(1)


def work(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    prepare: Callable[[], None] | None = None,
    option: str = "--njobs",
) -> Iterator[tuple[Job, Result]]:
    """Jobs with their results, as they are finished; with one worker, in this process.

    Ctrl-C, or any other end of the loop or of this process, ends the workers at once.

    Args:
        function: of a module, so that a new process finds it; its jobs must pickle.
        prepare: called once in each process before its first job; must pickle.
        option: of the command, that says how many workers.

    Raises:
        UsageError: a worker was killed.
    """
    if not jobs:
        return
    if min(workers, len(jobs)) <= 1:
        if prepare:
            prepare()
        for job in jobs:
            yield job, function(job)
        return
    coming, others = iter(jobs), set(active_children())
    spawned = get_context("spawn")  # a fork would copy threads that hold locks
    packed = pickle.dumps(prepare)  # what it imports can wait until the worker has begun
    with ProcessPoolExecutor(
        min(workers, len(jobs)), spawned, initializer=_begin, initargs=(packed,)
    ) as pool:
        try:
            waiting: dict[Future[Result], Job] = {}
            while True:
                for job in islice(coming, _AHEAD * workers - len(waiting)):
                    waiting[pool.submit(function, job)] = job
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool:
            raise UsageError(
                "a worker was killed, perhaps for memory. What is finished stays; run the same "
                f"command again, with a smaller {option}."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - others:
                child.terminate()  # what it was at is not on the disk
            raise


def _begin(packed: bytes) -> None:
    """Workers share the machine, a thread each."""
    begin_worker()
    one_thread()
    if prepare := pickle.loads(packed):
        prepare()
