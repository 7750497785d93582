"""All cases of a plan, over several processes, each result on disk as soon as it is there.

A run that was killed goes on where it stopped, and ends as an unbroken one would have: cases do
not depend on each other, nor on who computes them. So a suite with one attack more, or with a
network that was trained anew, runs that attack alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from advgan.command import work
from advgan.report.bench import Bench, CaseResult
from advgan.report.plan import Plan
from speakerguard.errors import SpeakerguardError, UsageError
from speakerguard.journal import Journal

FORMAT = "speakerguard-cases-2"

_CHECK = "recordings"  # in place of an attack's key

Task = tuple[int, int]  # pair and attack; attack -1 checks the pair's recordings
Progress = Callable[[int, int], None]


class InterruptedRunError(SpeakerguardError):
    """Ctrl-C; what was finished is kept."""

    exit_code = 130


def run(
    plan: Plan, out: Path, digest: str, keys: Sequence[str], workers: int, progress: Progress
) -> list[CaseResult]:
    """Run what is not in ``out`` yet and return all rows, by pair and attack.

    Args:
        digest: of the plan; runs of other plans lie beside it, untouched.
        keys: of its attacks; what is kept of others is left alone.
        workers: processes; 1 works in this one.
        progress: called with cases done and cases in all.

    Raises:
        UsageError: ``out`` cannot be written.
        InterruptedRunError: Ctrl-C; the same command goes on from there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}: no folder can be made there ({error.strerror}). Name another with --out."
        ) from None
    journal, pairs = journal_of(out, digest), range(len(plan.pairs))
    read = read_rows(journal, keys)
    rows = {(row.pair, row.attack): row for row in read if row.pair in pairs}
    attacks = range(len(plan.suite.entries))
    total = len(plan.pairs) * len(attacks)

    def do(tasks: Sequence[Task]) -> None:
        for _, row in work(_work, tasks, workers, partial(_prepare, plan), "--workers"):
            rows[row.pair, row.attack] = row
            key = _CHECK if row.attack < 0 else keys[row.attack]
            journal.append({"key": key} | row.as_dict())
            progress(sum(attack >= 0 for _, attack in rows), total)

    try:
        do([(pair, -1) for pair in range(len(plan.pairs)) if (pair, -1) not in rows])
        usable = [pair for pair in range(len(plan.pairs)) if rows[pair, -1].outcome == "judged"]
        total = len(usable) * len(attacks)
        do([(p, a) for p in usable for a in attacks if (p, a) not in rows])
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; {sum(attack >= 0 for _, attack in rows)} of {total} cases are kept in "
            f"{journal.path}. The same command goes on from there."
        ) from None
    return [rows[key] for key in sorted(rows)]


def rows_file(out: Path, digest: str) -> Path:
    """Where the rows of a plan are kept."""
    return out / f"cases-{digest}.jsonl"


def journal_of(out: Path, digest: str) -> Journal:
    """The journal of the rows of a plan."""
    header = {"format": FORMAT, "digest": digest}
    advice = "Begin anew with --fresh, or give another --out."
    return Journal(rows_file(out, digest), header, advice)


def read_rows(journal: Journal, keys: Sequence[str]) -> list[CaseResult]:
    """Rows of earlier runs that are attacks of this one, each under its number in this one.

    What was not run then, or failed, is left out: it is tried again.

    Raises:
        UsageError: the file is no such list, or damaged.
    """
    numbers = {_CHECK: -1} | {key: number for number, key in enumerate(keys)}
    shape = TypeAdapter(CaseResult)
    try:
        found = [(line.pop("key"), line) for line in journal.read()]
        known = [line | {"attack": numbers[key]} for key, line in found if key in numbers]
        rows = [shape.validate_python(line) for line in known]
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{journal.path}: a line of it is damaged. {journal.advice}") from None
    return [row for row in rows if row.outcome not in ("not-run", "failed")]


_BENCH: list[Bench] = []  # of this process


def _prepare(plan: Plan) -> None:
    _BENCH[:] = [Bench(plan)]


def _work(task: Task) -> CaseResult:
    pair, attack = task
    return _BENCH[0].check(pair) if attack < 0 else _BENCH[0].case(pair, attack)
