"""What pip installs is whole: the models travel inside, and nothing beside it is looked for."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "speakerguard", "advgan", "checkpoints")
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
        for pattern in ("*.safetensors", "model.onnx", "calibration*.json", "README.md")
        for path in shipped.glob(f"*/{pattern}")
    ]
    assert carried == set(wanted)
    assert len(wanted) > 25
    modules = {
        p.relative_to(ROOT).as_posix()
        for w in ("speakerguard", "advgan")
        for p in (ROOT / w).rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}
    assert wheel.stat().st_size < 90e6  # the package index takes 100 MB
