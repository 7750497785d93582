"""All cases of a plan, over several processes, each result on disk as soon as it is there.

A run that was killed goes on where it stopped, and ends as an unbroken one would have: cases do
not depend on each other, nor on who computes them.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TextIO

from advgan.report.bench import Bench, Row
from advgan.report.plan import Plan
from speakerguard.errors import SpeakerguardError, UsageError

FORMAT = "speakerguard-cases-1"
AHEAD = 3  # cases waiting for each worker; more would only take memory

Task = tuple[int, int]  # pair and attack; attack -1 checks the pair's recordings
Progress = Callable[[int, int], None]


class InterruptedRunError(SpeakerguardError):
    """Ctrl-C; what was finished is kept."""

    exit_code = 130


def run(plan: Plan, out: Path, digest: str, workers: int, progress: Progress) -> list[Row]:
    """Run what is not in ``out`` yet and return all rows, by pair and attack.

    Args:
        digest: of the plan; runs of other plans lie beside it, untouched.
        workers: processes; 1 works in this one.
        progress: called with cases done and cases in all.

    Raises:
        UsageError: ``out`` cannot be written.
        InterruptedRunError: Ctrl-C; the same command goes on from there.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = rows_file(out, digest)
    rows = {(row.pair, row.attack): row for row in read_rows(path, digest)}
    attacks = range(len(plan.suite.entries))
    total = len(plan.pairs) * len(attacks)
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            if not rows and file.tell() == 0:
                _write(file, {"format": FORMAT, "digest": digest})

            def work(tasks: Sequence[Task]) -> None:
                for row in _results(plan, tasks, workers):
                    rows[row.pair, row.attack] = row
                    _write(file, row.as_dict())
                    progress(sum(attack >= 0 for _, attack in rows), total)

            work([(pair, -1) for pair in range(len(plan.pairs)) if (pair, -1) not in rows])
            usable = [pair for pair in range(len(plan.pairs)) if rows[pair, -1].outcome == "judged"]
            total = len(usable) * len(attacks)
            work([(p, a) for p in usable for a in attacks if (p, a) not in rows])
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; {sum(attack >= 0 for _, attack in rows)} of {total} cases are kept in "
            f"{path}. The same command goes on from there."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror or error}); {len(rows)} results are kept. "
            "Make room, then run the same command again: it goes on from there."
        ) from None
    return [rows[key] for key in sorted(rows)]


def rows_file(out: Path, digest: str) -> Path:
    """Where the rows of a plan are kept."""
    return out / f"cases-{digest}.jsonl"


def read_rows(path: Path, digest: str) -> list[Row]:
    """Rows of an earlier run; a last line that was cut off is taken away.

    Raises:
        UsageError: the file is no such list.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    try:
        header, *lines = [json.loads(line) for line in whole.splitlines()] or [{}]
    except ValueError:
        header, lines = {"format": "not JSON"}, []
    if whole and (header.get("format"), header.get("digest")) != (FORMAT, digest):
        raise UsageError(
            f"{path}: no list of this run's cases; it was changed or damaged. Begin anew with "
            "--fresh, or give another --out."
        )
    return [Row(**line) for line in lines]


def _write(file: TextIO, content: dict[str, object]) -> None:
    """One line, on the disk when this returns."""
    file.write(json.dumps(content, sort_keys=True) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _results(plan: Plan, tasks: Sequence[Task], workers: int) -> Iterator[Row]:
    """Rows of ``tasks`` as they come."""
    if not tasks:
        return
    if workers <= 1:
        _prepare(plan, alone=True)
        yield from map(_work, tasks)
        return
    waiting, others = iter(tasks), set(active_children())
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_prepare, initargs=(plan,)
    ) as pool:
        try:
            pending: set[Future[Row]] = set()
            for task in islice(waiting, workers * AHEAD):
                pending.add(pool.submit(_work, task))
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                for task in islice(waiting, len(done)):
                    pending.add(pool.submit(_work, task))
        except BrokenProcessPool:
            raise UsageError(
                "a worker process ended unexpectedly, perhaps for want of memory. What is finished "
                "is kept: run the same command again, with fewer --workers."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - others:
                child.terminate()  # what it was at is done again; nothing of it is on the disk
            raise


_BENCH: list[Bench] = []  # of this process


def _prepare(plan: Plan, alone: bool = False) -> None:
    if not alone:  # Ctrl-C is the parent's to handle
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _BENCH[:] = [Bench(plan)]


def _work(task: Task) -> Row:
    pair, attack = task
    return _BENCH[0].check(pair) if attack < 0 else _BENCH[0].case(pair, attack)
