"""Thresholds and ratios as they are read: exact at the edge, and damage named."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard.errors import ConfigError, UsageError
from speakerguard.evaluation.calibrate import calibrate
from speakerguard.evaluation.trials import Trial, read_scores, write_scores
from speakerguard.verification.calibration import Calibration, CalibrationFile


def test_ratios_of_one_score_and_of_many() -> None:
    line = Calibration(scale=2.0, offset=-1.0)
    assert line.llr(0.75) == 0.5
    assert line.llr(np.array([0.5, 1], dtype=np.float32)).tolist() == [0, 1]
    assert line.llr(np.array([0.5, 1], dtype=np.float32)).dtype == np.float64


def test_a_threshold_of_ones_own(saved: tuple[Path, CalibrationFile]) -> None:
    point = saved[1].point(0.25)
    assert (point.name, point.threshold, point.accepts(0.25)) == ("custom", 0.25, True)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite"):
            saved[1].point(bad)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, CalibrationFile]:
    trials = [
        Trial("vctk/a/1", "vctk/a/2", "target", 1),
        Trial("vctk/a/1", "vctk/b/1", "nontarget", 2),
        Trial("vctk/b/1", "vctk/b/2", "target", 3),
        Trial("vctk/a/1", "vctk/b/ü 1", "spoof", 4),
    ]
    write_scores(tmp_path / "scores.txt", trials, [0.8, 0.2, 0.7, 0.75])
    file = calibrate(read_scores(tmp_path / "scores.txt"), model="abc123", trials="dev")
    path = tmp_path / "calibration.json"
    file.save(path)
    return path, file


def test_a_file_comes_back_as_it_was(saved: tuple[Path, CalibrationFile]) -> None:
    path, file = saved
    assert CalibrationFile.load(path) == file
    assert file.model == "abc123"
    assert file.provenance.trials == "dev"
    assert (file.provenance.targets, file.provenance.nontargets) == (2, 1)
    assert file.provenance.speakers == 2
    scores = path.with_name("scores.txt").read_bytes()
    assert file.provenance.scores_sha256 == sha256(scores).hexdigest()


def test_a_score_at_the_threshold_is_accepted(saved: tuple[Path, CalibrationFile]) -> None:
    _, file = saved
    for name, point in file.points.items():
        assert file.point(name) == point
        assert point.accepts(point.threshold)
        assert not point.accepts(float(np.nextafter(point.threshold, -np.inf)))
    assert file.point() == file.points["fa-1%"]
    assert file.point().accepts(0.7)
    assert not file.point().accepts(0.2)
    with pytest.raises(UsageError, match=r"'fa-5%'.*fa-1%, fa-0.1%, eer"):
        file.point("fa-5%")
    with pytest.raises(UsageError, match="nan"):
        file.point().accepts(float("nan"))


def _unknown_point_key(data: dict[str, Any]) -> None:
    data["points"]["eer"]["treshold"] = 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data.pop("model"), "model: is missing"),
        (lambda data: data["calibration"].pop("scale"), "calibration.scale: is missing"),
        (lambda data: data.update(modle="x"), "modle: is an unknown key"),
        (_unknown_point_key, "points.eer.treshold: is an unknown key"),
        (lambda data: data["calibration"].update(scale="20"), "calibration.scale: .*number"),
        (lambda data: data["calibration"].update(scale=-1), "calibration.scale: is not above 0"),
        (lambda data: data["points"]["eer"].update(threshold=np.nan), "threshold: .*finite"),
        (lambda data: data["points"]["eer"].update(p_fa=2), "points.eer: .*outside 0 to 1"),
        (lambda data: data["points"]["eer"].update(name="x"), "points.eer.name: is 'x'"),
        (lambda data: data.update(default="fa-5%"), "default: .*'fa-5%'"),
        (lambda data: data["provenance"].update(targets=1.5), "provenance.targets: "),
    ],
)
def test_a_damaged_file_is_named_with_the_key(
    saved: tuple[Path, CalibrationFile], change: Callable[[dict[str, Any]], None], says: str
) -> None:
    path, _ = saved
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as error:
        CalibrationFile.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read.*speakerguard calibrate"):
        CalibrationFile.load(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("scale: 20")
    with pytest.raises(ConfigError, match=r"text\.json: the file: invalid JSON"):
        CalibrationFile.load(tmp_path / "text.json")
