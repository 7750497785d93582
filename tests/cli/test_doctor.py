"""The doctor sees each thing that can be wrong, and says what to do about it."""

import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speakerguard.cli import doctor
from speakerguard.cli.doctor import Check, as_dict, diagnose, exit_code, report
from speakerguard.cli.gpu import runs_on
from speakerguard.network import checkpoint
from speakerguard.verification.cohort import COHORT_FILE, Cohort
from speakerguard.verification.profile import Profile
from speakerguard.verification.store import ProfileStore


def only(checks: Iterator[Check], name: str) -> Check:
    (check,) = (check for check in checks if check.name == name)
    return check


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int], list[str]], None]:
    """A torch built for CUDA 12.8 and a GPU of some capability, as far as the doctor can tell."""

    def make(capability: tuple[int, int], architectures: list[str]) -> None:
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: architectures)

    return make


def test_this_environment_is_sound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(tmp_path / "new" / "voices.db"))
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tiny_model.parent))
    checks = diagnose()
    assert [check for check in checks if check.ok is False] == []
    assert exit_code(checks) == 0
    names = {check.name for check in checks}
    assert names >= {"Python", "numpy", "Opus", "CPU features", "encoding", "profile store"}
    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps(as_dict(checks)))["ok"] is True


def test_every_complaint_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: missing(name))
    monkeypatch.setattr(soundfile, "write", lambda *_, **__: missing("codec"))
    monkeypatch.setattr(doctor, "MIN_MEMORY_GIB", 1e6)
    monkeypatch.setattr("speakerguard.network.checkpoint.guards", lambda: [])
    monkeypatch.setenv("SPEAKERGUARD_STORE", "nonsense://host/db")
    checks = diagnose()
    assert exit_code(checks) == 1
    wrong = [check for check in checks if check.ok is not True]
    assert len(wrong) >= len(doctor.PACKAGES) + 4
    for check in wrong:
        assert check.advice.strip()
        assert check.advice in report(checks)


def missing(name: str) -> Any:
    raise metadata.PackageNotFoundError(name)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: missing(n) if n == "soxr" else real(n))
    check = only(doctor._packages(), "soxr")
    assert (check.ok, check.value) == (False, "not installed")
    assert "pip install soxr" in check.advice
    assert only(doctor._packages(), "numpy").value == np.__version__


def test_versions_against_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert list(doctor._lock()) == []  # installed from a wheel
    (tmp_path / "pyproject.toml").touch()
    lock = tmp_path / "requirements.lock"
    torch_version = torch.__version__.partition("+")[0]
    lock.write_text(f"# made by pip\nnumpy=={np.__version__} \\\n    --hash=sha256:0\n")
    assert only(doctor._lock(), "locked versions").ok is True
    lock.write_text(f"numpy==1.0\ntorch=={torch_version}+cu128 ; python_version > '3'\nnosuch==2\n")
    check = only(doctor._lock(), "locked versions")
    assert check.ok == "warning"
    assert check.value == f"numpy {np.__version__} not 1.0, nosuch missing not 2"


def test_a_codec_that_writes_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = soundfile.write
    monkeypatch.setattr(soundfile, "write", lambda f, x, *a, **k: real(f, 0 * x, *a, **k))
    assert {check.ok for check in doctor._codecs()} == {False}


def test_a_codec_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", (("MP3", "MP3", "NO_SUCH"),))
    check = only(doctor._codecs(), "MP3")
    assert check.ok is False
    assert "cannot be written" in check.value


def test_cuda_that_fits(gpu: Callable[[tuple[int, int], list[str]], None]) -> None:
    gpu((9, 0), ["sm_80", "sm_90"])
    assert only(doctor._cuda(), "CUDA 0").ok is True


def test_cuda_that_does_not_fit(gpu: Callable[[tuple[int, int], list[str]], None]) -> None:
    gpu((12, 0), ["sm_80", "sm_90a"])
    check = only(doctor._cuda(), "CUDA 0")
    assert check.ok is False
    assert "sm_80 sm_90a only" in check.advice


def test_cuda_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert only(doctor._cuda(), "CUDA").ok == "warning"


def test_gpu_with_a_cpu_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path)
    assert "CUDA=1" in only(doctor._cuda(), "CUDA").advice


@pytest.mark.parametrize(
    ("capability", "architecture", "runs"),
    [
        ((8, 6), "sm_86", True),
        ((8, 9), "sm_86", True),
        ((8, 0), "sm_86", False),
        ((9, 0), "sm_86", False),
        ((9, 0), "compute_86", True),
        ((8, 0), "compute_86", False),
        ((9, 0), "sm_90a", True),
        ((10, 0), "sm_100", True),
        ((10, 3), "sm_100a", False),
        ((10, 3), "sm_100f", True),
        ((12, 0), "sm_100f", False),
    ],
)
def test_which_builds_run_where(capability: tuple[int, int], architecture: str, runs: bool) -> None:
    assert runs_on(capability, ["gfx90a", architecture]) is runs


def test_an_encoding_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert "PYTHONUTF8" in only(doctor._encoding(), "encoding").advice


def test_a_store_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(tmp_path / "file" / "voices.db"))
    check = only(doctor._store(), "profile store")
    assert check.ok is False
    assert "SPEAKERGUARD_STORE" in check.advice


def test_models_are_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, normalised_model: Path
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    for name in ("guard", "bad-weights", "bad-thresholds", "bad-cohort", "narrow-cohort"):
        shutil.copytree(normalised_model, tmp_path / name)
    assert (
        only(doctor._models(), "models").value == f"{', '.join(checkpoint.guards())} in {tmp_path}"
    )
    for path in ("bad-weights/model.safetensors", "bad-cohort/cohort.safetensors"):
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "bad-thresholds" / checkpoint.NORMALISED_FILE).unlink()
    fingerprint = checkpoint.fingerprint(normalised_model / checkpoint.MODEL_FILE)
    narrow = Cohort(np.eye(2, 8, dtype=np.float32), fingerprint)
    narrow.save(tmp_path / "narrow-cohort" / COHORT_FILE)
    checks = list(doctor._models())
    assert only(iter(checks), "models").value == f"guard in {tmp_path}"
    for name, says in (
        ("bad-weights", "not a whole safetensors file"),
        ("bad-cohort", "not a whole safetensors file"),
        ("bad-thresholds", "has no thresholds yet"),
        ("narrow-cohort", "cohort"),
    ):
        check = only(iter(checks), f"model {name}")
        assert (check.ok, says in check.value) == (False, True), check
        assert check.advice


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SPEAKERGUARD_ENGINE", "tpu", "no engine 'tpu'"),
        ("SPEAKERGUARD_ENGINE", "onnxruntime", "model.onnx: no such file"),
        ("SPEAKERGUARD_THREADS", "0", "give a number from 1"),
    ],
)
def test_what_the_environment_asks_for(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tiny_model.parent))
    assert only(doctor._engine(), "engine").ok is True
    monkeypatch.setenv(variable, value)
    check = only(doctor._engine(), "engine")
    assert check.ok is False
    assert says in check.value
    assert variable in check.advice
    assert only(doctor._models(), "models").ok is True


def test_one_broken_look_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Check]:
        raise OSError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_codecs", broken)
    checks = diagnose()
    assert only(iter(checks), "broken").ok is False
    assert only(iter(checks), "CPU features").value


def test_tensorflow_is_not_imported() -> None:
    code = "import sys; from speakerguard.cli.doctor import *; diagnose(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tensorflow" not in run.stdout.split()


def test_what_needs_torch_is_not_looked_at_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    without = {"torch", "tensorboard"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in without else real(n))
    assert only(doctor._cuda(), "CUDA").ok is True
    extras = only(doctor._extras(), "extras")
    assert "train (lacks torch, tensorboard)" in extras.value.partition("not installed: ")[2]
    assert "evaluate" in extras.value.partition(";")[0]
    assert (extras.ok, "speakerguard[NAME]" in extras.advice) == (True, True)


def test_markers_and_what_only_cuda_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.lock").write_text("nosuch==2 ; python_version < '3' \\\n  --hash=1\n")
    (tmp_path / "requirements-torch.lock").write_text(
        f"nvidia-x==1 ; sys_platform == 'linux' \\\n  --hash=1\nnumpy=={np.__version__} \\\n"
    )
    assert only(doctor._lock(), "locked versions").value == "all 1 as locked"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are Unix's")
def test_a_store_that_others_can_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "voices.db"
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(path))
    ProfileStore().add(Profile("a", "model", np.ones((1, 4), np.float32) / 2, (1.0,), ("x",)))
    path.chmod(0o640)
    check = only(doctor._store(), "store's permissions")
    assert (check.ok, check.value) == ("warning", "640")
    assert f"chmod go= '{path}'" in check.advice
    path.chmod(0o600)
    assert only(doctor._store(), "store's permissions").ok is True


def test_an_installed_model_that_was_changed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = []
    for name in ("good", "bad", "gone"):
        file = metadata.PackagePath(f"speakerguard/_checkpoints/{name}/model.safetensors")
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(name)
        digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()
        file.hash = metadata.FileHash(f"sha256={digest.rstrip('=')}")
        file.dist = metadata.PathDistribution(tmp_path / "x.dist-info")
        files.append(file)
    monkeypatch.setattr(metadata, "files", lambda name: files)
    assert only(doctor._files(), "model files").value == "all 3 as the package has them"
    (tmp_path / files[1]).write_text("Bad")
    (tmp_path / files[2]).unlink()
    check = only(doctor._files(), "model files")
    assert check.ok is False
    assert "bad/model.safetensors, gone/model.safetensors" in check.value
    assert "good" not in check.value
