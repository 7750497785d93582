"""What pip installs is whole: the models travel inside, and nothing beside it is looked for."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.installing import Installed

from speakerguard.embedders.wheels import WHEELS
from speakerguard.sound.audio import read

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "speakerguard", "advgan", "checkpoints")
SMALL = ("--model", "guard-int8")  # whose weights are all inside
INSIDE = "speakerguard/_checkpoints/"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository, built by way of a source distribution and off line."""
    tree, built = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    sdist = f"from setuptools.build_meta import build_sdist; build_sdist({str(built)!r})"
    subprocess.run([sys.executable, "-c", sdist], cwd=tree, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", built, *built.glob("*.tar.gz")], check=True)
    return next(built.glob("*.whl"))


def test_the_models_travel_in_a_place_that_is_nobody_elses(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"advgan", "speakerguard"}
    carried = {name.removeprefix(INSIDE) for name in names if name.startswith(INSIDE)}
    shipped = ROOT / "checkpoints"
    wanted = [
        path.relative_to(shipped).as_posix()
        for pattern in ("*.safetensors", "m*.json", "model.onnx", "calibration*.json", "README.md")
        for path in shipped.glob(f"*/{pattern}")
    ]
    wanted.append("figures.json")
    assert carried == set(wanted)
    assert len(wanted) > 25
    modules = {
        p.relative_to(ROOT).as_posix()
        for w in ("speakerguard", "advgan")
        for p in (ROOT / w).rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}
    assert wheel.stat().st_size < 90e6  # the package index takes 100 MB


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone, and beside it a folder of somebody else's with a tempting name."""
    installed = Installed(wheel, tmp_path_factory.mktemp("core"))
    strange = installed.packages / "checkpoints" / "guard"
    strange.mkdir(parents=True)
    (strange / "model.onnx").write_text("not ours")
    (strange / "model.safetensors").write_text("not ours")
    return installed


@pytest.fixture(scope="module")
def alice(core: Installed, speech: dict[str, list[Path]]) -> tuple[Path, Path]:
    """Another recording of who is enrolled as alice, and one of somebody else."""
    own, other = list(speech.values())[:2]
    done = core.run("speakerguard", "enroll", *SMALL, "alice", *own[:3])
    assert done.returncode == 0, done.stderr
    return own[3], other[3]


def test_the_core_has_no_framework(core: Installed) -> None:
    for name in ("torch", "tensorflow", "scipy", "pydantic", "matplotlib", "librosa"):
        done = core.run("python", "-c", f"import {name}")
        assert f"No module named '{name}'" in done.stderr


def test_the_doctor_finds_the_installed_core_sound(core: Installed) -> None:
    done = core.run("speakerguard", "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, checks
    assert (
        f"guard, guard-int8, hardened in {core.packages / INSIDE.rstrip('/')}"
        == (checks["models"]["value"])
    )
    assert checks["model files"]["value"].startswith("all ")
    assert checks["extras"]["value"].startswith("none; not installed: attack, demo, evaluate, ")


@pytest.mark.parametrize("model", ["guard", "guard-int8", "hardened", "fused"])
def test_the_core_verifies_and_identifies(
    core: Installed, alice: tuple[Path, Path], speech: dict[str, list[Path]], model: str
) -> None:
    if model == "fused":
        for wheel in WHEELS.values():
            if not wheel.present():
                pytest.skip(f"{wheel.requirement} is not in the cache")
            cached = core.home / wheel.folder.relative_to(Path.home())
            cached.parent.mkdir(parents=True, exist_ok=True)
            cached.symlink_to(wheel.folder)
    store = core.home / f"{model}.db"
    named = ("--model", model, "--store", store)
    for name, files in zip(("alice", "bob"), speech.values(), strict=False):
        assert core.run("speakerguard", "enroll", *named, name, *files[:3]).returncode == 0
    scores = []
    for probe in alice:
        done = core.run("speakerguard", "verify", *named, "--json", "alice", probe)
        answer = json.loads(done.stdout)
        assert done.returncode == (answer["decision"] == "reject"), done.stderr
        scores.append(answer["score"])
    assert scores[0] > scores[1]
    done = core.run("speakerguard", "identify", *named, "--json", alice[0])
    assert json.loads(done.stdout)["ranking"][0][0] == "alice", done.stderr


def test_the_core_follows_a_pipe(core: Installed, alice: tuple[Path, Path]) -> None:
    pcm = (32_767 * read(alice[0])).astype("<i2").tobytes()
    done = core.run("speakerguard", "verify", *SMALL, "--stream", "--json", "alice", "-", feed=pcm)
    whole = core.run("speakerguard", "verify", *SMALL, "--json", "alice", alice[0])
    streamed, offline = (json.loads(run.stdout) for run in (done, whole))
    assert streamed["decision"] == offline["decision"]
    assert streamed["score"] == pytest.approx(offline["score"], abs=0.02)  # 16 bits


@pytest.mark.parametrize("line", ["speakerguard report --suite smoke", "advgan-infer -s a -t b"])
def test_what_the_core_lacks_is_said_in_one_line(core: Installed, line: str) -> None:
    done = core.run(*line.split())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'speakerguard[attack]'" in done.stderr


@pytest.mark.timeout(1800)  # a whole report, on a busy machine
def test_the_extra_attacks(wheel: Path, speech: dict[str, list[Path]], tmp_path: Path) -> None:
    """With the attackers' weights out of the wheel, from an empty folder."""
    installed = Installed(wheel, tmp_path, ["attack"])
    source, target = (files[0] for files in list(speech.values())[:2])
    for mode in ("convert", "perturb"):
        attack = ("--mode", mode, "--no-words", "-o", mode, "-s", source, "-t", target)
        done = installed.run("advgan-infer", *attack)
        assert done.returncode == 0, done.stderr
        assert list((installed.here / mode).rglob("*.wav"))
    done = installed.run("speakerguard", "report", "--suite", "smoke", "--fail-on", "error")
    assert done.returncode == 0, done.stderr
    assert (installed.here / "out" / "report" / "report.html").is_file()
