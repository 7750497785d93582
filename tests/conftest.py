"""What several test files share."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared speech and reference scores: beside the repository, or as told."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SPEAKERGUARD_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; SPEAKERGUARD_SHARED can name another place")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> npt.NDArray[np.float64]:
    """Published scores, (3, n): speaker, countermeasure, label (1 target, 2 non-target, 0 spoof).

    The README beside them lists what reference implementations make of them.
    """
    file = shared / "golden" / "asvspoof5_dev_scores.csv"
    columns: npt.NDArray[np.float64] = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    return columns
