"""Pairs of voices: lists, trial lists, the demo's speakers."""

from pathlib import Path

import pytest

from advgan.pairs import Pair, demo_pairs, read_pairs
from speakerguard.errors import TrialError
from speakerguard.evaluation.demo_set import ENROL, choose

Clips = dict[str, list[Path]]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def listed(folder: Path, text: str) -> Path:
    path = folder / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_pairs_it_is_the_demo(speech: Clips, tmp_path: Path) -> None:
    for speaker, clips in speech.items():
        folder = tmp_path / "corpus" / speaker
        folder.mkdir(parents=True)
        for clip in clips:
            (folder / clip.name).symlink_to(clip)
    chosen = choose(tmp_path)
    pairs = demo_pairs(tmp_path)
    speakers = list(chosen)
    assert [pair.target for pair in pairs] == [
        chosen[speaker][ENROL].as_posix() for speaker in speakers
    ]
    assert pairs[0].source == chosen[speakers[1]][ENROL].as_posix()
    assert all(len(pair.enrol) == ENROL and pair.target not in pair.enrol for pair in pairs)


def test_pairs_and_trial_lists_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "a/2.wav", "a/3.wav", "b/1.wav")
    pairs = listed(tmp_path, "b/1.wav\ta/1.wav\ta/2.wav\ta/3.wav\n")
    assert read_pairs(pairs, tmp_path) == [Pair("b/1.wav", "a/1.wav", ("a/2.wav", "a/3.wav"), 1)]
    windows = "\ufeff# who\r\n\r\nb\\1.wav\ta/1.wav\ta/2.wav\t\r\n"
    made = read_pairs(listed(tmp_path, windows), tmp_path)
    assert made == [Pair("b/1.wav", "a/1.wav", ("a/2.wav",), 3)]
    trials = listed(tmp_path, "1 a/2.wav a/1.wav\n0 a/2.wav b/1.wav\n")
    assert read_pairs(trials, tmp_path) == [Pair("b/1.wav", "a/1.wav", ("a/2.wav",), 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b/1.wav\ta/1.wav\ta/9.wav\n", "a/9.wav: no such file, asked for by line 1"),
        ("b/1.wav\ta/1.wav\ta/1.wav\n", "line 1 gives the attacker a recording that is enrolled"),
        ("b/1.wav\ta/1.wav\tb/1.wav\n", "lets b attack their own voice (b/1.wav)"),
        ("b/1.wav\tb/2.wav\ta/1.wav\n", "lets b attack their own voice"),
        ("0 a/1.wav b/1.wav\n", "nobody to attack"),
        ("what is this", "line 1"),
        ("b/1.wav\ta/1.wav\n", "line 1"),
        ("", "holds no trials"),
        ("b/1.wav\t\ta/1.wav\n", "line 1 has an empty column"),
        ("\ta/1.wav\ta/1.wav\n", "line 1 has an empty column"),
    ],
)
def test_a_wrong_pair_list_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a/1.wav", "b/1.wav", "b/2.wav")
    with pytest.raises(TrialError) as error:
        read_pairs(listed(tmp_path, text), tmp_path)
    assert message in str(error.value)


def test_a_list_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="cannot be read"):
        read_pairs(tmp_path / "none.tsv", tmp_path)
    (tmp_path / "latin.tsv").write_bytes(b"\xe9\tb\tc\n")
    with pytest.raises(TrialError, match="line 1 is not UTF-8"):
        read_pairs(tmp_path / "latin.tsv", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b/1.wav\t\ta/1.wav\n", "line 1"),
        ("b/1.wav\ta/1.wav\ta/2.wav\n\ta/1.wav\ta/2.wav\n", "line 2"),
        ("/\t.\t..\n", "/: no such file"),
        ("b/1.wav\t./\ta/1.wav\n", "no such file"),
        (f"b/1.wav\t{'a' * 999}\ta/1.wav\n", "no such file"),
        ("b/1.wav\ta\0.wav\ta/1.wav\n", "no such file"),
    ],
)
def test_columns_that_name_no_file(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a/1.wav", "a/2.wav", "b/1.wav")
    with pytest.raises(TrialError) as error:
        read_pairs(listed(tmp_path, text), tmp_path)
    assert message in str(error.value)
