from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import TrialError, UsageError
from speakerguard.evaluation.lists import read_enrolment_map
from speakerguard.evaluation.trials import (
    Trial,
    check_files,
    read_scores,
    read_trials,
    write_scores,
)
from speakerguard.sound.corpus import source_of, speaker_of


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


def pairs(path: Path) -> list[tuple[str, str, str]]:
    return [(trial.enrol, trial.test, trial.label) for trial in read_trials(path)]


@pytest.mark.parametrize(
    "text",
    [
        "1 a b\n0 a c\n",
        "1\ta\tb\r\n\r\n0\ta\tc\r\n",
        "a b target\na c nontarget",
        "\ufeffa   b target\n  a c nontarget  \n",
        "a b 0.53 target\na c -1e-3 nontarget\n",
        "a b bonafide target\na c bonafide nontarget\n",
        "a b - target\na c A07 nontarget\n",
        "spk\tfilename\tcm-label\tasv-label\na\tb\tbonafide\ttarget\na\tc\tbonafide\tnontarget\n",
        "filename asv-label spk\nb target a\nc nontarget a\n",
        "a b 1\na c 0\n",
        "a b 0.53 1\na c -1e-3 0\n",
        "a b 0.53 target 5.1 4.2 0.1 0.2\na c 0.1 nontarget 5 4 0 0\n",
        "target 0.53 a b\nnontarget 0.1 a c\n",
        "a b F bonafide target\na c M bonafide nontarget\n",
        "a\tb F\tbonafide target\na\t c\tM bonafide nontarget\n",
        "# made by hand\n\n1 a b\r\n  #1 a d\n0 a c\r\n",
        "1\t\ta\t\tb\n0\t\ta\t\tc\n",
        "1 \"a\" 'b'\n0 a c\n",
    ],
)
def test_every_format_says_the_same(tmp_path: Path, text: str) -> None:
    expected = [("a", "b", "target"), ("a", "c", "nontarget")]
    assert pairs(write(tmp_path / "list", text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a b spoof\n",
        "a b 0.1 spoof\n",
        "a b A13 spoof\n",
        "a b spoof spoof\n",
        "a b F A11 spoof\n",
        "a b - AC01 spoof\n",
        "spk filename cm-label asv-label\na b spoof spoof\n",
    ],
)
def test_spoofs_are_a_class_of_their_own(tmp_path: Path, text: str) -> None:
    assert pairs(write(tmp_path / "list", text)) == [("a", "b", "spoof")]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    trials = read_trials(write(tmp_path / "list", "\n1 a b\n \t\n0 a\x85\u2028 b\u3000c\n"))
    assert trials == [
        Trial("a", "b", "target", 2),
        Trial("a\x85\u2028", "b\u3000c", "nontarget", 4),
    ]


def test_names_may_be_in_any_script_and_hold_spaces_between_tabs(tmp_path: Path) -> None:
    text = "1\tанна/моя запись.wav\t山田/声 1.wav\n0\tanna\tعلي.wav\n"
    found = pairs(write(tmp_path / "list", text))
    assert found[0] == ("анна/моя запись.wav", "山田/声 1.wav", "target")
    assert found[1][1] == "علي.wav"
    quoted = pairs(write(tmp_path / "quoted", "1 \"my file.wav\" 'it is.wav'\n0 'tis b's\n"))
    assert quoted == [("my file.wav", "it is.wav", "target"), ("'tis", "b's", "nontarget")]


def test_one_line_settles_what_a_file_called_target_is(tmp_path: Path) -> None:
    assert pairs(write(tmp_path / "list", "1 a target\n0 a b\n"))[0] == ("a", "target", "target")
    assert pairs(write(tmp_path / "list", "1 a target\nb c target\n"))[0] == ("1", "a", "target")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "holds no trials"),
        (" \n\n", None, "holds no trials"),
        ("1 a b\na b\n", 2, "no label"),
        ("a b\n", 1, "no label"),
        ("a b 0.7\n", 1, "no label"),
        ("2 a b\n", 1, "no label"),
        ("a b Target\n", 1, "no label"),
        ("1 a b\na b target\n", 2, "lines above it (VoxCeleb)"),
        ("a b target\na c 0.5 target\n", 2, "lines above it (Kaldi or SASV)"),
        ("1 my file.wav b.wav\n", 1, "tab"),
        ("my file.wav b.wav target\n", 1, "tab"),
        ("1\t\tb\n", 1, "no known format"),
        ("a b spoof target\n", 1, "both spoof and target"),
        ("a b F A11 target extra\n", 1, "no known format"),
        ("1 17 0\n", None, "VoxCeleb and as CN-Celeb"),
        ("a b bonafide spoof\n", 1, "both bonafide and spoof"),
        ("1 a b\n1 a c\n0 a b\n", 3, "contradicts line 1, which says target"),
        ("1 a target\n", None, "VoxCeleb and as Kaldi"),
        ("filename\tasv-label\nb\ttarget\n", 1, "'spk'"),
        ("spk filename asv-label\n", None, "no trials"),
        ("spk filename asv-label\na b -\n", 2, "no label"),
        ("spk filename cm-label asv-label\na b spoof target\n", 2, "both spoof and target"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    tmp_path: Path, text: str, line: int | None, says: str
) -> None:
    path = write(tmp_path / "list.txt", text)
    with pytest.raises(TrialError) as error:
        read_trials(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    if line is not None:
        assert f"line {line} " in message
        shown = text.split("\n")[line - 1].split()[-1]
        assert shown in message


def test_other_encodings_and_missing_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"1 a b\n1 a j\xfcrgen\n")
    with pytest.raises(TrialError, match=r"line 2 is not UTF-8.*j\\\\xfcrgen"):
        read_trials(path)
    with pytest.raises(TrialError, match=r"absent.*cannot be read"):
        read_trials(tmp_path / "absent")


def test_each_file_is_asked_for_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    trials = [Trial("a", "b", "target", 1), Trial("b", "a", "target", 2)]
    assert check_files(trials, tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}
    gone = [*trials, Trial("a", "c", "target", 7), Trial("c", "d", "target", 8)]
    with pytest.raises(TrialError, match=r"c: no such file.* line 7 \(1 more missing\)"):
        check_files(gone, tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(TrialError, match="c: no such file"):
        check_files(gone, tmp_path)


def test_files_are_found_by_ids_and_by_windows_names(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in ("s/a.flac", "s/b.wav", "c\\d"):
        (tmp_path / name).touch()
    found = check_files(
        [Trial("s\\b.wav", "s/a", "target", 1), Trial("c\\d", "s\\a", "spoof", 2)], tmp_path
    )
    assert found["s\\b.wav"] == tmp_path / "s/b.wav"
    assert found["s/a"] == found["s\\a"] == tmp_path / "s/a.flac"
    assert found["c\\d"] == tmp_path / "c\\d"  # a name on this system comes first
    for name in ("s/" + 300 * "x", "s/\0"):
        with pytest.raises(TrialError, match="no such file"):
            check_files([Trial(name, name, "target", 1)], tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "m a,b\nn c\n",
        "\ufeffm a b\r\n\r\nn c\r\n",
        "# who\nm\ta\tb\nn\tc,\n",
        "m a\nn c\nm b\nm a\n",
    ],
)
def test_an_enrolment_map_lists_the_recordings_of_each_model(tmp_path: Path, text: str) -> None:
    models = read_enrolment_map(write(tmp_path / "map", text))
    assert models == {"m": ("a", "b"), "n": ("c",)}
    for name in "abct":
        (tmp_path / f"{name}.flac").touch()
    trials = [Trial("m", "t", "target", 1), Trial("n", "t", "nontarget", 2)]
    assert list(check_files(trials, tmp_path, models)) == ["a", "b", "t", "c"]
    with pytest.raises(TrialError, match=r"/m: no such file.* line 1.*--enrolment-map"):
        check_files(trials, tmp_path)
    (tmp_path / "b.flac").unlink()
    with pytest.raises(TrialError, match=r"/b: no such file, asked for by the trial on line 1"):
        check_files(trials, tmp_path, models)


@pytest.mark.parametrize(("text", "says"), [("", "no models"), ("m a\nn\n", "line 2 names no"),
                                            ("m ,\n", "line 1 names no")])  # fmt: skip
def test_an_enrolment_map_without_recordings_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(TrialError, match=says):
        read_enrolment_map(write(tmp_path / "map", text))


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1, max_size=9
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
labels = st.sampled_from(["target", "nontarget", "spoof"])


@given(
    st.lists(st.tuples(names, names, labels, numbers), min_size=1, unique_by=lambda row: row[:2])
)
def test_scores_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, float]]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.txt"
    trials = [Trial(enrol, test, label, line) for line, (enrol, test, label, _) in enumerate(rows)]
    write_scores(path, trials, [row[3] for row in rows])
    table = read_scores(path)
    assert list(zip(table.enrol, table.test, table.labels, table.scores, strict=True)) == rows
    assert table.text().encode() == path.read_bytes()


def test_a_score_file_has_four_plain_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    trials = [Trial("a", "b", "target", 1), Trial("a", "c", "spoof", 2)]
    write_scores(path, trials, np.array([0.1, -1], dtype=np.float32))
    assert path.read_text() == "target 0.10000000149011612 a b\nspoof -1.0 a c\n"
    assert [found.name for found in tmp_path.iterdir()] == ["scores.txt"]
    write_scores(path, [Trial("a b", "c", "target", 1)], [0.5])
    assert path.read_text() == "target\t0.5\ta b\tc\n"


def test_classes_are_told_apart(tmp_path: Path) -> None:
    table = read_scores(write(tmp_path / "s", "1 .9 a b\n0 .1 a c\nspoof .5 a d\ntarget 1 a e\n"))
    assert table.labels.tolist() == ["target", "nontarget", "spoof", "target"]
    assert table.targets.tolist() == [0.9, 1.0]
    assert table.nontargets.tolist() == [0.1]
    assert table.spoofs.tolist() == [0.5]


@pytest.mark.parametrize(
    "text",
    [
        "a b .9 1\na c .1 0\na d .5 1\n",
        "\ufeffa b .9 target\r\na c .1 nontarget\r\na d .5 spoof\r\n",
        "a b .9 target 5 4 .1 .2\na c .1 nontarget 5 4 .1 .2\na d .5 spoof 5 4 .1 .2\n",
        "spk\tfilename\tasv-score\tasv-label\na\tb\t.9\ttarget\na\tc\t.1\tnontarget\n",
    ],
)
def test_scores_of_other_programs_are_read(tmp_path: Path, text: str) -> None:
    table = read_scores(write(tmp_path / "s", text))
    assert table.scores.tolist()[:2] == [0.9, 0.1]
    assert table.labels.tolist()[:2] == ["target", "nontarget"]
    assert (table.enrol[0], table.test[1]) == ("a", "c")


def test_what_cannot_be_stored_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.txt", "1 0.5 a b\n")
    trials = [Trial("a", "b", "target", 1), Trial("a", "c", "target", 4)]
    for bad in (np.nan, np.inf):
        with pytest.raises(TrialError, match=r"line 4 is (nan|inf)"):
            write_scores(path, trials, [0.5, bad])
    with pytest.raises(TrialError, match=r"line 3.*line break"):
        write_scores(path, [Trial("a\nb", "c", "target", 3)], [0.5])
    with pytest.raises(UsageError, match="2 trials"):
        write_scores(path, trials, [0.5])
    with pytest.raises(UsageError, match="cannot be written"):
        write_scores(path / "below" / "scores.txt", trials, [0.5, 0.6])
    assert path.read_text() == "1 0.5 a b\n"
    assert [found.name for found in tmp_path.iterdir()] == ["scores.txt"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no scores"),
        ("1 0.5 a b\n1 0.5 a\n", r"line 2 is not in the format .*scores, label first"),
        ("1 0.5 a b c\n", "line 1 .* tab"),
        ("a b 0.5 target\na c high nontarget\n", "line 2 .*'high'"),
        ("a b 0.5\n", "line 1 has no label"),
        ("1 2 0.5 1\n", "scores, label first and as scores, label last"),
        (
            "spk filename cm-score asv-score sasv-score\na b 1 2 3\n",
            "without the column 'asv-label'",
        ),
        ("spk filename asv-label\na b target\n", "without the column 'asv-score'"),
        ("1 0.5 a b\nx 0.5 a c\n", "line 2 has no label"),
        ("1 nan a b\n", "line 1 .*'nan'"),
        ("1 0.5 a b\n\n0 -inf a c\n", "line 3 .*'-inf'"),
        ("1 high a b\n", "line 1 .*'high'"),
        ("1 0.5 a b\n0 0.5 a b\n", "line 2 contradicts line 1"),
    ],
)
def test_score_lines_that_cannot_be_used_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "scores.txt", text)
    with pytest.raises(TrialError, match=says) as error:
        read_scores(path)
    assert str(error.value).startswith(f"{path}: ")


def test_the_dev_list_agrees_with_speaker_names(shared: Path) -> None:
    dev = shared / "corpus" / "dev"
    trials = read_trials(dev / "trials.txt")
    same = [trial.label == "target" for trial in trials]
    assert (len(trials), sum(same)) == (15_988, 1_744)
    assert same == [speaker_of(trial.enrol) == speaker_of(trial.test) for trial in trials]
    assert all(source_of(trial.enrol) == source_of(trial.test) for trial in trials)
    assert len(check_files(trials, dev)) == len({n for t in trials for n in (t.enrol, t.test)})
