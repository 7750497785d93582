"""Nothing that can be handed in ends in anything but an answer or an error with advice.

A minute of damaged input of every kind, always the same. ``SPEAKERGUARD_FUZZ_SECONDS`` sets how
long each kind is tried, ``SPEAKERGUARD_FUZZ_SEED`` what is tried: for a night, or before a release.
See ``support/fuzzing.py``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNTS = {  # inputs of each kind that take ten seconds or so
    "recordings": 3000,
    "profiles": 500,
    "lists": 2000,
    "configurations": 400,
    "reports": 1200,
    "networks": 60,
}
SECONDS = os.environ.get("SPEAKERGUARD_FUZZ_SECONDS")
SEED = os.environ.get("SPEAKERGUARD_FUZZ_SEED", "0")


@pytest.mark.timeout(0 if SECONDS else 300)
@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_input_is_answered_or_refused(kind: str, normalised_model: Path) -> None:
    amount = ["--seconds", SECONDS] if SECONDS else ["--count", str(COUNTS[kind])]
    words = ["tests/support/fuzzing.py", kind, "--seed", SEED, "--model", str(normalised_model)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, *words, *amount], cwd=Path(__file__).parents[1], env=environment,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    last = ran.stdout.strip().rpartition("\n")[2]
    again = f"python {' '.join(words)} --first {last} --count 1"
    assert ran.returncode == 0, f"{ran.stderr[-3000:]}\nexit code {ran.returncode}; again: {again}"
    assert last.isdigit(), "nothing was tried"
