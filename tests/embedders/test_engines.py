"""Engines: one embedding whichever runs the network, and no framework where none is needed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from speakerguard import seal
from speakerguard.cli import app as cli
from speakerguard.embedders import load as engines
from speakerguard.embedders.guard import OnnxEmbedder, OpenVinoEmbedder, TorchEmbedder
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export.formats import export
from speakerguard.network import checkpoint
from speakerguard.verification.verifier import Verifier

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "guard"
LENGTHS = (8_000, 16_000, 20_011, 47_983, 80_000)
Sound = Callable[..., Any]


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its ``model.onnx``."""
    folder = tmp_path_factory.mktemp("engines") / "guard"
    shutil.copytree(tiny_model, folder)
    export(folder, "onnx")
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """One that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def other_weights(folder: Path) -> None:
    encoder, _ = checkpoint.load(folder)
    encoder.trunk.stages[0].conv.weight.data *= 1.01  # type: ignore[operator, union-attr]
    checkpoint.save(encoder, folder / checkpoint.MODEL_FILE)


@pytest.mark.parametrize("other", [OnnxEmbedder, OpenVinoEmbedder])
def test_engines_agree(exported: Path, sound: Sound, other: Any) -> None:
    if other is OpenVinoEmbedder:
        pytest.importorskip("openvino")
    clips = [sound(length, seed) for seed, length in enumerate(LENGTHS)]
    torch_one, other_one = TorchEmbedder(exported), other(exported, 1)
    expected, found = torch_one.embed(clips), other_one.embed(clips)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01  # not one embedding for all
    assert all(e.dtype == np.float32 and e.shape == (other_one.dimension,) for e in found)
    assert other_one.fingerprint == torch_one.fingerprint
    assert other_one.min_samples == torch_one.min_samples
    assert other_one.embed([]) == []


def test_the_shipped_network_is_that_of_the_shipped_weights(sound: Sound) -> None:
    if not (SHIPPED / checkpoint.MODEL_FILE).is_file():
        pytest.skip("no weights here")
    clips = [sound(length, seed) for seed, length in enumerate(LENGTHS)]
    found, expected = OnnxEmbedder(SHIPPED).embed(clips), TorchEmbedder(SHIPPED).embed(clips)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_auto_takes_onnx_runtime_where_it_can(
    exported: Path, tiny_model: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(engines.load(exported), OnnxEmbedder)
    assert isinstance(engines.load(tiny_model), TorchEmbedder)
    assert not caplog.records
    other_weights(copy)
    assert isinstance(engines.load(copy), TorchEmbedder)
    assert "belongs to weights" in caplog.text
    assert "export --to onnx" in caplog.text


def test_an_engine_may_be_asked_for(
    exported: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(engines.load(exported, "torch"), TorchEmbedder)
    monkeypatch.setenv("SPEAKERGUARD_ENGINE", "torch")
    assert isinstance(engines.load(exported), TorchEmbedder)
    assert isinstance(engines.load(exported, "onnxruntime"), OnnxEmbedder)
    with pytest.raises(CheckpointError, match=r"model.onnx: no such file. Export it again"):
        engines.load(tiny_model, "onnxruntime")
    with pytest.raises(UsageError, match=r"no engine 'tpu'. Choose one of: auto, onnxruntime"):
        engines.load(exported, "tpu")
    with pytest.raises(UsageError, match="campplus runs on ONNX Runtime alone"):
        engines.load("campplus", "openvino")


@pytest.mark.parametrize("threads", [0, -1, 1_025, 10**11])
def test_no_such_number_of_threads(exported: Path, threads: int) -> None:
    for engine in ("torch", "onnxruntime"):
        with pytest.raises(UsageError, match=f"'{threads}'; give a number from 1 to 1024"):
            engines.load(exported, engine, threads)


@pytest.mark.parametrize("value", ["0", "two", "-1", "1025", "99999999999", "9" * 5_000])
def test_threads_are_a_number(exported: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SPEAKERGUARD_THREADS", value)
    with pytest.raises(UsageError, match="SPEAKERGUARD_THREADS"):
        engines.load(exported)


def test_a_stale_network_is_refused(copy: Path) -> None:
    other_weights(copy)
    with pytest.raises(CheckpointError, match=r"model.onnx belongs to weights .* these are"):
        OnnxEmbedder(copy)


def change_about(folder: Path, left_out: str) -> None:
    network = onnx.load(folder / checkpoint.ONNX_FILE, load_external_data=False)
    kept = [entry for entry in network.metadata_props if entry.key != left_out]
    del network.metadata_props[:]
    network.metadata_props.extend(kept)
    del network.metadata_props[-1]  # its digest
    onnx.save(network, folder / checkpoint.ONNX_FILE)
    seal.seal(folder / checkpoint.ONNX_FILE)


@pytest.mark.parametrize("spaces", [8, 4096])
def test_the_same_weights_elsewhere_in_their_file_are_refused(
    copy: Path, sound: Sound, spaces: int
) -> None:
    """The fingerprint is the same, and the network would read what lies in their former place."""
    weights = copy / checkpoint.MODEL_FILE
    expected, fingerprint = (
        engines.load(copy).embed([sound(16_000)]),
        checkpoint.fingerprint(weights),
    )
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * spaces  # which JSON allows
    weights.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert checkpoint.fingerprint(weights) == fingerprint
    for engine in (OnnxEmbedder, OpenVinoEmbedder):
        with pytest.raises(
            CheckpointError, match=r"elsewhere in model.safetensors.*Export it again"
        ):
            engine(copy)
    np.testing.assert_allclose(engines.load(copy).embed([sound(16_000)]), expected, atol=1e-4)
    export(copy, "onnx")
    assert OnnxEmbedder(copy).fingerprint == fingerprint


def test_a_network_that_holds_its_weights_may_lie_beside_them(copy: Path, tmp_path: Path) -> None:
    export(copy, "onnx", tmp_path / "whole.onnx")
    (tmp_path / "whole.onnx").replace(copy / checkpoint.ONNX_FILE)
    assert OnnxEmbedder(copy).fingerprint == checkpoint.fingerprint(copy / checkpoint.MODEL_FILE)
    change_about(copy, "layout")
    with pytest.raises(CheckpointError, match=r"by an earlier version.*Export it again"):
        OnnxEmbedder(copy)


def test_a_network_that_does_not_say_what_it_is_is_refused(copy: Path) -> None:
    change_about(copy, "dimension")
    with pytest.raises(CheckpointError, match=r"says of itself is damaged \('dimension'\)"):
        OnnxEmbedder(copy)


@pytest.mark.parametrize("kept", [0, 100, -1000])
def test_a_damaged_network_is_refused(copy: Path, kept: int) -> None:
    network = copy / checkpoint.ONNX_FILE
    network.write_bytes(network.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.onnx: is damaged, or .*Export it again"):
        OnnxEmbedder(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / checkpoint.MODEL_FILE
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="the file was changed or damaged"):
        engines.load(copy)
    weights.write_bytes(data[:-100])
    with pytest.raises(CheckpointError):
        engines.load(copy)


def test_a_clip_that_is_too_short_is_refused(exported: Path, sound: Sound) -> None:
    embedder = OnnxEmbedder(exported)
    embedder.embed([sound(embedder.min_samples)])
    with pytest.raises(UsageError, match="too short"):
        embedder.embed([sound(embedder.min_samples - 1)])


def test_enrol_verify_and_identify_import_no_framework(
    exported: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    first, second, probe, *_ = next(iter(speech.values()))
    program = (
        "import sys\n"
        "from speakerguard import cli\n"
        "sys.argv = ['speakerguard', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'onnx', 'openvino', 'librosa', 'pydantic'}\n"
        "print(code, sorted(heavy & set(sys.modules)), 'sqlalchemy' in sys.modules)\n"
    )
    path = tmp_path / "profiles.db"
    for arguments, store, database in (
        (["enroll", "alice", first, second], path, True),
        (["verify", "alice", probe], path, False),
        (["identify", probe], f"sqlite:///{path}", False),
    ):
        common = ["--model", exported, "--store", store]
        line = [sys.executable, "-c", program, *map(str, [*arguments, *common])]
        ran = subprocess.run(line, capture_output=True, text=True, check=False)
        code, rest = ran.stdout.splitlines()[-1].split(" ", 1)
        assert code in "01", ran.stderr
        assert rest == f"[] {database}"


def test_profiles_serve_every_engine(
    exported: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    first, second, probe, *_ = next(iter(speech.values()))
    store = str(tmp_path / "profiles.db")
    Verifier(exported, store, "torch").enroll("alice", [first, second])
    scores = [Verifier(exported, store, e).verify("alice", probe).score for e in ("torch", "auto")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_the_command_line_takes_an_engine(
    exported: Path,
    speech: dict[str, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = next(iter(speech.values()))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    answers = []
    for engine in ("torch", "onnxruntime", "nonsense"):
        common = ["--store", str(tmp_path / "p.db"), "--model", str(exported), "--engine", engine]
        line = ["enroll", "alice", str(clips[0]), "--replace", "--json", *common]
        monkeypatch.setattr(sys, "argv", ["speakerguard", *line])
        with pytest.raises(SystemExit) as end:
            cli.main()
        answers.append((end.value.code, capsys.readouterr()))
    assert [code for code, _ in answers] == [0, 0, 2]
    assert json.loads(answers[0][1].out)["model"] == json.loads(answers[1][1].out)["model"]
    assert "no engine 'nonsense'" in answers[2][1].err
