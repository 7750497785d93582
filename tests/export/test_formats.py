"""Exports: every one is compared with torch, and one that differs is never written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export import formats as exporting
from speakerguard.export import to_onnx
from speakerguard.export.formats import FORMATS, export, reader
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder

NEEDED = {"openvino": "openvino", "keras": "keras", "saved_model": "keras", "litert": "keras"}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "guard"))


@pytest.mark.timeout(900)  # TensorFlow is slow to start on a busy machine
@pytest.mark.parametrize("to", FORMATS)
def test_an_export_embeds_as_torch_does(
    model: Path, tmp_path: Path, sound: Callable[..., Any], to: str
) -> None:
    pytest.importorskip(NEEDED.get(to, "onnx"))
    done = export(model, to, tmp_path / "out" / f"exported{FORMATS[to]}")
    shutil.rmtree(model)  # nothing of it is needed any more
    assert done.difference <= exporting.TOLERANCE
    assert done.bytes > 100_000
    run = reader(to, done.path)
    encoder = made_again(tmp_path)
    for length in (9_999, 32_001):
        clip = sound(length, seed=3)[None]
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(clip)).numpy()
        np.testing.assert_allclose(run(clip), expected, rtol=0, atol=1e-4)
        if to != "litert":
            two = np.concatenate([clip, clip[:, ::-1]])
            np.testing.assert_allclose(run(two)[:1], expected, rtol=0, atol=1e-4)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"exported.xml", "exported.bin"} if to == "openvino" else {done.path.name}


@pytest.fixture(autouse=True)
def keep_weights(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / checkpoint.MODEL_FILE, tmp_path / "kept.safetensors")


def made_again(tmp_path: Path) -> SpeakerEncoder:
    return checkpoint.load(tmp_path / "kept.safetensors")[0]


def test_onnx_beside_the_weights_refers_to_them(model: Path, tmp_path: Path) -> None:
    beside = export(model, "onnx")
    whole = export(model, "onnx", tmp_path / "whole.onnx")
    assert beside.path == model / "model.onnx"
    weights = (model / checkpoint.MODEL_FILE).stat().st_size
    assert whole.bytes - beside.bytes > 0.8 * weights


def test_an_export_that_differs_is_not_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(model, "onnx")
    before = (model / "model.onnx").read_bytes()
    right = to_onnx.dft_basis
    monkeypatch.setattr(to_onnx, "dft_basis", lambda *given: 1.01 * np.roll(right(*given), 1, 1))
    with pytest.raises(CheckpointError, match="differs from torch by"):
        export(model, "onnx")
    assert (model / "model.onnx").read_bytes() == before
    assert not list(model.glob("*.part*"))


def test_what_cannot_be_exported(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no format 'coreml'. Choose one of: onnx, openvino"):
        export(model, "coreml")
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export(model, "onnx", tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="no model"):
        export(tmp_path / "nowhere", "onnx")


@pytest.mark.parametrize("to", ["saved_model", "onnx", "openvino"])
def test_no_folder_is_lost_to_an_export(
    model: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "load", lambda _: pytest.fail("this was work"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"work{FORMATS[to]}"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    (tmp_path / "link").symlink_to(folder)
    outs = [folder, folder / "..", Path(), Path(".."), tmp_path / "link"]
    for out in outs if to == "saved_model" else outs[:1]:
        with pytest.raises(UsageError, match=r"would be lost|names no file|is a folder"):
            export(model, to, out)
    if to == "openvino":
        (tmp_path / "other.bin").mkdir()
        with pytest.raises(UsageError, match=r"other\.bin: is a folder"):
            export(model, to, tmp_path / "other.xml")
    assert (folder / "thesis.txt").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_a_former_saved_model_goes_when_the_new_one_stands(tmp_path: Path, linked: bool) -> None:
    out, part = tmp_path / "out", tmp_path / "part"
    place = tmp_path / "elsewhere" if linked else out
    place.mkdir()
    (place / "saved_model.pb").write_text("old")
    if linked:
        out.symlink_to(place)
    exporting._require_room(out, "saved_model")
    with pytest.raises(FileNotFoundError):
        exporting._replace(part, out)
    assert (out / "saved_model.pb").read_text() == "old"
    part.mkdir()
    (part / "saved_model.pb").write_text("new")
    exporting._replace(part, out)
    assert (out / "saved_model.pb").read_text() == "new"
    assert not list(tmp_path.glob("*.old"))
    exporting._require_room(tmp_path / "new", "saved_model")
    (tmp_path / "empty").mkdir()
    exporting._require_room(tmp_path / "empty", "saved_model")
