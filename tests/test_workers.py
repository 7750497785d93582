"""No worker outlives the process that it works for, however that ended."""

import subprocess
import sys
from pathlib import Path

import pytest

POOL = """
import time
from advgan.command import work
for _ in work(time.sleep, [0.0] + [600.0] * 4, 2):
    print("working", flush=True)
"""
CUTTING = """
import time
from pathlib import Path
from speakerguard.training import data
def cut(path, pad):
    print("working", flush=True)
    time.sleep(600)
data._cut = cut
list(data._cut_all(Path(), [Path(str(n)) for n in range(64)], 2, 2))
"""
TRAINING = """
import sys
from pathlib import Path
from support import training
from speakerguard.training.guard_task import GuardTask
training.take_buzzes_for_speech(__import__("pytest").MonkeyPatch())
root = Path(sys.argv[1])
corpus = training.make_corpus(root / "corpus")
settings = training.config(corpus, root / "run", steps=500, workers=2)
task = GuardTask(settings, training.quiet)
task.begin(0)
task.learn(0)
print("working", flush=True)
import time; time.sleep(600)
"""


@pytest.mark.parametrize("program", [POOL, CUTTING, TRAINING], ids=["pool", "cutting", "training"])
def test_workers_end_when_their_parent_is_killed(program: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"working\n"
    parent.kill()
    parent.communicate(timeout=4)  # which waits for whoever else may write there
