"""The list of cases that a killed report goes on from."""

import json
from pathlib import Path

import pytest

from advgan.report.bench import CaseResult
from advgan.report.runner import FORMAT, journal_of, read_rows, rows_file
from speakerguard.errors import UsageError

HEADER = {"format": FORMAT, "digest": "d1"}
ROW = {"key": "k1", **CaseResult(3, 0, scores={"none": 0.5, "opus": None}, took=1.5).as_dict()}


def listed(folder: Path, *lines: object) -> Path:
    path = rows_file(folder, "d1")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rows_come_back_under_their_number_in_this_run(tmp_path: Path) -> None:
    other = ROW | {"key": "of another suite", "pair": 4}
    failed = ROW | {"outcome": "failed", "pair": 5}
    path = listed(tmp_path, HEADER, ROW, other, failed)
    with path.open("a") as file:
        file.write('{"key": "k1", "pa')  # cut off by a kill
    row = CaseResult(3, 1, scores={"none": 0.5, "opus": None}, took=1.5)
    assert read_rows(journal_of(tmp_path, "d1"), ["k0", "k1"]) == [row]
    assert read_rows(journal_of(tmp_path / "none", "d1"), []) == []


@pytest.mark.parametrize(
    "lines",
    [
        [{"format": FORMAT, "digest": "d2"}],
        [[]],
        ["text"],
        [HEADER, 3],
        [HEADER, {}],
        [HEADER, {"key": {}}],
        [HEADER, ROW | {"pair": "first"}],
        [HEADER, ROW | {"scores": {"none": "high"}}],
        [HEADER, ROW | {"outcome": "won"}],
        [HEADER, ROW | {"pair": 2**70, "quality": []}],
    ],
)
def test_another_list_and_rows_of_another_shape_are_refused(
    lines: list[object], tmp_path: Path
) -> None:
    listed(tmp_path, *lines)
    with pytest.raises(UsageError, match=r"cases-d1\.jsonl: .*(damaged|other settings)"):
        read_rows(journal_of(tmp_path, "d1"), ["k1"])
