import subprocess
import sys
from pathlib import Path

import pytest

from speakerguard.errors import ConfigError
from speakerguard.training.config import TrainConfig, load

CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
    if not path.stem.startswith("advgan-")  # of another schema, read by their own tests
]
GOOD = """\
out: runs/x
steps: 10
data:
  train: train
  dev: dev
  dev_trials: dev/trials.txt
loss:
  softmax: 1
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_shipped_can_be_read(path: Path) -> None:
    assert load(path).steps > 0


def test_the_guard_is_among_them() -> None:
    assert {"guard", "deep_speaker_softmax", "deep_speaker_triplet", "librispeech"} <= {
        path.stem for path in CONFIGS
    }


def test_no_two_shipped_runs_share_a_folder() -> None:
    folders = [load(path).out for path in CONFIGS]
    assert len(set(folders)) == len(folders)


def test_the_papers_recipe_hands_its_weights_on() -> None:
    by_name = {path.stem: load(path) for path in CONFIGS}
    first, second = by_name["deep_speaker_softmax"], by_name["deep_speaker_triplet"]
    assert second.init == first.out.as_posix()
    assert second.model == first.model
    assert (first.model.head, first.model.width, first.model.embedding) == ("mean", 64, 512)
    assert first.loss.margin == 0
    assert first.loss.softmax > 0
    assert second.loss.triplet > 0
    assert second.loss.softmax == 0


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    assert isinstance(config, TrainConfig)
    assert config.data.speeds == (1.0,)
    assert config.data.folders == (Path("train"),)
    assert config.attacks is None
    assert config.choose_by == "pooled"
    assert config.model.head == "tdnn"


def test_training_folders_may_be_listed(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD.replace("train: train", "train: [train, runs/voices]")))
    assert config.data.folders == (Path("train"), Path("runs/voices"))


def test_the_hardened_guard_goes_on_from_the_guard() -> None:
    by_name = {path.stem: load(path) for path in CONFIGS}
    guard, hardened = by_name["guard"], by_name["hardened"]
    assert hardened.init == "guard"
    assert hardened.model == guard.model
    assert hardened.attacks is not None
    assert hardened.learning_rate < guard.learning_rate


@pytest.mark.parametrize(
    ("wrong", "key", "near"),
    [
        ("stepz: 3", "stepz", "steps"),
        ("learning-rate: 1", "learning-rate", "learning_rate"),
        ("model: {widht: 8}", "model.widht", "width"),
        ("model: {front: logmel}", "model.front", "front_end"),
    ],
)
def test_an_unknown_key_names_its_neighbour(
    tmp_path: Path, wrong: str, key: str, near: str
) -> None:
    path = write(tmp_path, GOOD + wrong + "\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: unknown key '{key}'; did you mean '{near}'?"


@pytest.mark.parametrize(
    ("section", "wrong", "near"),
    [
        ("data", "unlabeled", "unlabelled"),
        ("loss", "distil_cosin", "distil_cosine"),
        ("attacks", "epsilom", "epsilon"),
    ],
)
def test_also_in_sections(tmp_path: Path, section: str, wrong: str, near: str) -> None:
    good = GOOD + "attacks:\n  share: 0.1\n"
    path = write(tmp_path, good.replace(f"{section}:\n", f"{section}:\n  {wrong}: 1\n"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == (f"{path}: unknown key '{section}.{wrong}'; did you mean '{near}'?")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "stepz: 3\n" + GOOD.replace("softmax: 1", "softmax: -1"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 10", "steps: ten", r"steps: .*valid integer.*got 'ten'"),
        ("steps: 10", "steps: 1.5", r"steps: .*integer.*got 1.5"),
        ("steps: 10", "steps: 0", r"steps: .*greater than or equal to 1, got 0"),
        ("steps: 10\n", "", r"key 'steps' is missing"),
        ("  dev: dev\n", "", r"key 'data.dev' is missing"),
        ("softmax: 1", "softmax: [1]", r"loss.softmax: .*number"),
        ("softmax: 1", "softmax: 0", r"loss: every loss has weight 0"),
        ("softmax: 1", "distil_cosine: 1\nmodel: {embedding: 64}", r"teacher's 192 .* have 64"),
        ("softmax: 1", "triplet: 1\nclips: 1", r"clips must be 2"),
        ("steps: 10", "steps: 10\ncrop_seconds: [3, 2]", r"crop_seconds must be \[shortest"),
        ("steps: 10", "steps: 10\ncrop_seconds: 3", r"crop_seconds: .*tuple, got 3"),
        ("steps: 10", "steps: 10\nunlabelled_share: 0.1", r"needs data.unlabelled"),
        ("steps: 10", "steps: 10\nmodel: {head: lstm}", r"model.head: .*'tdnn'.*got 'lstm'"),
        ("train: train", "train: [a, a]", r"data.train: must name a folder, or several different"),
        ("train: train", "train: []", r"data.train: must name a folder"),
        ("steps: 10", "steps: 10\nchoose_by: eer", r"choose_by: .*'mean' or 'last', got 'eer'"),
        ("steps: 10", "steps: 10\nattacks: {}", r"attacks: nothing attacks; give folders in made"),
        ("steps: 10", "steps: 10\nattacks: {share: 0.9}", r"attacks.share: .*got 0.9"),
        ("steps: 10", "steps: 10\nattacks: {share: 0.1, keep_source: 1}", r"attacks: keep_source"),
        (
            "steps: 10",
            "steps: 10\nattacks: {made: [x], keep_source: 1}",
            r"keep_source follows the teacher; give loss.distil_cosine",
        ),
        ("steps: 10", "steps: 10\nseed: -1", r"seed: .*greater than or equal to 0, got -1"),
        ("steps: 10", "steps: 10\ncrop_seconds: [1.6, .inf]", r"crop_seconds.*finite"),
        ("train: train", "train: dev", r"data: train .dev. and dev .dev. share recordings"),
        ("train: train", "train: [train, dev/a]", r"data: train .dev/a. and dev .dev. share"),
        ("train: train", "train: train\n  unlabelled: .", r"data: unlabelled .\.. and dev"),
        ("train: train", "train: train\n  train: other", r"the key 'train' stands there twice"),
        (
            "steps: 10",
            "steps: 10\nsteps: 20",
            r"the key 'steps' stands there twice; .*line 3",
        ),
        ("train: train", "train: train\n  speeds: []", r"data.speeds: .*at least 1"),
        ("train: train", "train: train\n  speeds: [1, 0]", r"data.speeds.1: .*got 0"),
    ],
)
def test_a_wrong_value_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


def test_a_small_file_makes_no_long_message(tmp_path: Path) -> None:
    """YAML's aliases repeat what they name."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 7)]
    path = write(tmp_path, "a0: &a0 [x, x]\n" + "\n".join(levels) + "\nsteps: *a6\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(str(caught.value)) < 5_000


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- b\n", "just words", "a: [1", "\t: x", "out: 2024-13-45", f"a: {'[' * 5_000}"],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml: (must hold keys|not valid YAML)"):
        load(write(tmp_path, text))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.yaml: cannot be read \(No such file"):
        load(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("out: Übung\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml: not a text file"):
        load(tmp_path / "latin.yaml")


def test_a_configuration_is_read_without_torch() -> None:
    program = (
        "import sys; from pathlib import Path; from speakerguard.training.config import load\n"
        "load(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    line = [sys.executable, "-c", program, str(CONFIGS[0])]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "False\n"
