from pathlib import Path

import pytest
from support.tooling import load_tool

from speakerguard.errors import UsageError
from speakerguard.evaluation.trials import read_trials
from speakerguard.sound.corpus import source_of, speaker_of

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
    assert 5 * 20 * 7 < len(trials) - targets <= 5 * 20 * 10


def test_strangers_are_of_the_same_source_and_met_once(tmp_path: Path) -> None:
    for source in "xy":
        for speaker in "abc":
            for number in range(3):
                path = tmp_path / source / speaker / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    lines = [line.split() for line in tool.make_trials(tmp_path)]
    strangers = [(enrol, test) for label, enrol, test in lines if label == "0"]
    assert all(source_of(enrol) == source_of(test) for enrol, test in strangers)
    assert len({frozenset(pair) for pair in strangers}) == len(strangers) == 2 * 3 * 9


def test_one_speaker_makes_no_trials(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two speakers with two recordings each"):
        tool.make_trials(librispeech(tmp_path, speakers=1, recordings=3))


def test_what_is_wrong_is_a_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["make_trials", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert end.value.code == 2
    assert "make_trials: " in (said := capsys.readouterr().err)
    assert "no such folder" in said
