"""Seals what earlier versions wrote without: ``python -m speakerguard.reseal FOLDER …``.

A seal is against accidents: who may write a file may seal it anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from speakerguard.errors import CheckpointError, SpeakerguardError
from speakerguard.network.checkpoint import CALIBRATION_FILE, NORMALISED_FILE, ONNX_FILE
from speakerguard.seal import seal
from speakerguard.verification.calibration import CalibrationFile
from speakerguard.verification.cohort import COHORT_FILE, Cohort


def main(folders: list[str]) -> None:
    """Seal the networks, cohorts and calibrations of these folders, as they are."""
    for folder in map(Path, folders):
        done = []
        if (path := folder / ONNX_FILE).exists() and seal(path):
            done.append(path.name)
        for kind, names in (
            (Cohort, [COHORT_FILE]),
            (CalibrationFile, [CALIBRATION_FILE, NORMALISED_FILE]),
        ):
            for path in (folder / name for name in names):
                if path.exists() and not _sealed(kind, path):
                    kind.load(path, sealed=False).save(path)
                    done.append(path.name)
        print(f"{folder}: sealed {', '.join(done) or 'nothing; what it holds is sealed'}")


def _sealed(kind: type[Cohort] | type[CalibrationFile], path: Path) -> bool:
    try:
        kind.load(path)
    except CheckpointError:
        return False
    return True


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SpeakerguardError as error:
        sys.exit(f"error: {error}")
