"""Training the discriminator as a detector of made speech."""

import shutil
from functools import partial
from pathlib import Path

import attacking
import numpy as np
import pytest
from attacking import Make, quiet

from advgan import batches, checkpoint, loop
from advgan.detector import DetectorTask
from advgan.judge import Detector
from advgan.loop import Loop
from advgan.manifest import append, write_manifest
from speakerguard.audio import SAMPLE_RATE, read
from speakerguard.errors import UsageError


@pytest.fixture(scope="module")
def corpus(speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return attacking.make_corpus(speech, tmp_path_factory.mktemp("attacked"))


@pytest.fixture
def make(corpus: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(loop, "plot_history", lambda *_: None)
    monkeypatch.setattr(batches, "default_workers", lambda: 1)
    return partial(attacking.config, corpus, tiny_model)


def test_the_detector_learns_from_what_was_generated(
    make: Make, corpus: Path, tmp_path: Path
) -> None:
    file = sorted((corpus / "dev").rglob("*.opus"))[0]
    folder = tmp_path / "made"
    folder.mkdir()
    shutil.copy(file, folder / "000000.opus")
    row = {"id": "000000", "output": "000000.opus", "accepted": True}
    append(folder, row)
    write_manifest(folder, [row], {})
    config = make(
        "discriminator", tmp_path / "run", spoofs=[folder], dev_spoofs=[folder], copies=0.5, batch=4
    )
    task = DetectorTask(config, quiet)  # type: ignore[arg-type]
    assert len(task.dev_made) == 1
    Loop(config, task, quiet).run()
    detector = Detector(str(tmp_path / "run"))
    clip = read(file)
    quieter = detector.llr((0.3 * clip, SAMPLE_RATE))
    assert quieter == pytest.approx(detector.llr(file), abs=0.2)
    silence = np.zeros(SAMPLE_RATE, np.float32)
    padded = detector.llr((np.concatenate([silence, clip, silence]), SAMPLE_RATE))
    assert padded == pytest.approx(detector.llr(file), abs=0.5)
    assert {"scale", "offset"} <= checkpoint.load("discriminator", tmp_path / "run").about.keys()
    with pytest.raises(UsageError, match="advgan-generate -o"):
        DetectorTask(make("discriminator", tmp_path / "x", spoofs=[tmp_path]), quiet)  # type: ignore[arg-type]
