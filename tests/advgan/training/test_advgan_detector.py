"""Training the discriminator as a detector of made speech."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.attacking import Make, quiet

from advgan.judging.judge import Detector
from advgan.manifest import append, write_manifest
from advgan.networks import checkpoint
from advgan.networks.discriminator import Discriminator
from advgan.networks.vocoder import NeuralVocoder, VocoderConfig
from advgan.training.config import AttackerRunConfig, DetectorConfig
from advgan.training.detector_task import DetectorTask, copiers, replayed
from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, read
from speakerguard.sound.speech import TIGHT, load_speech
from speakerguard.training.loop import Loop


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What advgan-generate leaves, of one recording."""
    folder = tmp_path_factory.mktemp("spoofs") / "made"
    folder.mkdir()
    shutil.copy(sorted((corpus / "dev").rglob("*.*"))[0], folder / "000000.opus")
    row = {"id": "000000", "output": "000000.opus", "accepted": True}
    append(folder, row)
    write_manifest(folder, [row], {})
    return folder


def task_of(config: AttackerRunConfig) -> DetectorTask:
    assert isinstance(config, DetectorConfig)
    return DetectorTask(config, quiet)


def test_the_detector_learns_from_what_was_generated(
    make: Make, corpus: Path, made: Path, tmp_path: Path
) -> None:
    config = make("discriminator", tmp_path / "run", spoofs=[made], copies=0.5, batch=4)
    Loop(config, task_of(config), quiet).run()
    detector = Detector(str(tmp_path / "run"))
    file = sorted((corpus / "dev").rglob("*.*"))[0]
    clip = read(file)
    quieter = detector.llr((0.3 * clip, SAMPLE_RATE))
    assert quieter == pytest.approx(detector.llr(file), abs=0.2)
    silence = np.zeros(SAMPLE_RATE, np.float32)
    padded = detector.llr((np.concatenate([silence, clip, silence]), SAMPLE_RATE))
    assert padded == pytest.approx(detector.llr(file), abs=0.5)
    speech = torch.from_numpy(load_speech(file).within(TIGHT)).requires_grad_()
    llr = detector.llr_of(speech)
    assert llr.item() == pytest.approx(detector.llr(file), abs=0.2)
    (slope,) = torch.autograd.grad(llr, speech)
    assert slope.isfinite().all()
    assert slope.any()
    assert {"scale", "offset"} <= checkpoint.load("discriminator", tmp_path / "run").about.keys()
    with pytest.raises(UsageError, match="advgan-generate -o"):
        task_of(make("discriminator", tmp_path / "x", spoofs=[tmp_path]))


def test_each_kind_of_made_speech_has_an_error_rate_that_is_printed_and_kept(
    make: Make, made: Path, tmp_path: Path
) -> None:
    """One vocoder and one folder are heard on dev alone."""
    network = NeuralVocoder(VocoderConfig(width=4, hidden=4, blocks=1))
    checkpoint.save("vocoder", network, tmp_path / "unseen" / "model.safetensors")
    config = make(
        "discriminator", tmp_path / "run", steps=1, dev_spoofs=[made],
        dev_vocoders=["griffin-lim", str(tmp_path / "unseen")],
    )  # fmt: skip
    kinds = {"copies by griffin-lim", "copies by unseen", "made in made", "codec", "replay"}
    lines: list[str] = []
    loop_ = Loop(config, task_of(config), lines.append)
    loop_.run()
    (record,) = loop_.history
    assert record.keys() == {"step", "lr", "detect", "dev", "seconds"} | kinds
    assert record["dev"] == pytest.approx(np.mean([record[kind] for kind in kinds]))
    assert all(0 <= record[kind] <= 1 for kind in kinds)
    assert all(f"{kind} {record[kind]:.4f}" in lines[-1] for kind in kinds)
    about = checkpoint.load("discriminator", tmp_path / "run").about
    assert {kind: about[kind] for kind in kinds} == {kind: record[kind] for kind in kinds}
    assert about["learnt"] == ["griffin-lim"]


def test_error_rates_are_of_their_own_kind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(make("discriminator", tmp_path))
    monkeypatch.setattr(Discriminator, "score", lambda _, mel: mel.mean()[None])
    silence = [mel.clone().fill_(-5.0) for mel in task.real]
    task.dev_spoofs = {"real": task.real, "silence": silence}
    task.channels = {"codec": [task.real, silence], "replay": [silence, task.real]}
    rates = task.evaluate()
    assert rates == {"dev": 0.375, "real": 0.5, "silence": 0, "codec": 0, "replay": 1}
    assert task.calibration["scale"] > 0


def test_neither_copies_nor_replays_give_themselves_away_by_silence(
    make: Make, corpus: Path, tmp_path: Path
) -> None:
    task = task_of(make("discriminator", tmp_path))
    clips = task.crops.draw(2, task.crops.rng(0))
    copies = task._copies(clips, copiers("griffin-lim")[0])
    assert copies.shape == clips.shape
    assert (copies[:, -100:].abs().amax(dim=1) > 1e-4).all()
    again = [replayed(clips[0].numpy(), np.random.default_rng(3)) for _ in range(2)]
    assert again[0].shape == clips[0].shape
    np.testing.assert_array_equal(*again)
    assert np.abs(again[0] - clips[0].numpy()).max() > 1e-3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"copies": 0.5}, "spoofs is empty"),
        ({"vocoders": []}, "vocoders is empty"),
        ({"dev_vocoders": []}, "nothing made to choose by"),
        ({"dev_spoofs": ["a/x", "b/x"]}, "the same name"),
        ({"spoofs": ["a/x"], "dev_spoofs": ["a/x"]}, "share recordings"),
    ],
)
def test_a_plan_without_made_speech_is_refused(
    make: Make, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        make("discriminator", tmp_path, **more)
