from pathlib import Path

import pytest
from tooling import load_tool

from speakerguard.errors import UsageError
from speakerguard.trials import read_trials, speaker_of

tool = load_tool("make_trials")


def librispeech(root: Path, speakers: int, recordings: int) -> Path:
    for speaker in range(10, 10 + speakers):
        for number in range(recordings):
            path = root / f"{speaker}/{100 + number % 2}/{speaker}-{100 + number % 2}-{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def test_trials_are_right_balanced_and_repeatable(tmp_path: Path) -> None:
    root = librispeech(tmp_path / "dev", speakers=5, recordings=30)
    lines = tool.make_trials(root)
    assert lines == tool.make_trials(root)
    assert lines != tool.make_trials(root, seed=1)
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    trials = read_trials(tmp_path / "trials.txt")
    assert len({(trial.enrol, trial.test) for trial in trials}) == len(trials)
    for trial in trials:
        assert trial.enrol != trial.test
        same = speaker_of(trial.enrol) == speaker_of(trial.test)
        assert same == (trial.label == "target")
    targets = sum(trial.label == "target" for trial in trials)
    assert targets == 5 * (15 * 5 + 4 + 3 + 2 + 1)
    assert len(trials) - targets == 5 * 20 * 10


def test_one_speaker_makes_no_trials(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two speakers with two recordings each"):
        tool.make_trials(librispeech(tmp_path, speakers=1, recordings=3))
