"""Whatever happens to a file of a model: an error that says what to do, or the same answers."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from speakerguard import reseal, seal
from speakerguard.embedders import load as engines
from speakerguard.embedders.load import ENGINES
from speakerguard.errors import CheckpointError
from speakerguard.export.formats import export
from speakerguard.export.int8 import int8_fingerprint
from speakerguard.network import checkpoint
from speakerguard.network.checkpoint import MODEL_FILE, NORMALISED_FILE, ONNX_FILE
from speakerguard.verification.calibration import CalibrationFile
from speakerguard.verification.cohort import COHORT_FILE, Cohort
from speakerguard.verification.scoring import Scoring
from speakerguard.verification.verifier import Verifier

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
FILES = (ONNX_FILE, MODEL_FILE, COHORT_FILE, NORMALISED_FILE)
TRIED = 30  # damaged bytes in each file, half of them among what it says of itself

Answer = tuple[Any, ...]


@pytest.fixture(scope="module")
def whole(normalised_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with everything: weights, network, cohort, thresholds."""
    folder = tmp_path_factory.mktemp("damage") / "guard"
    shutil.copytree(normalised_model, folder)
    export(folder, "onnx")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """One that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "guard"))


@pytest.fixture
def alone(whole: Path, folder: Path) -> Path:
    """The same, with a network that holds its weights and has none beside it."""
    export(whole, "onnx", folder / ONNX_FILE)
    (folder / MODEL_FILE).unlink()
    return folder


def answer(folder: Path, engine: str, clips: list[Any]) -> Answer:
    """Embeddings, to the bit."""
    embedder = engines.load(folder, engine, threads=1)
    return embedder.fingerprint, *(row.tobytes() for row in embedder.embed(clips))


def decision(folder: Path, fingerprint: str) -> Answer:
    """What follows from two voices that are alike."""
    scoring = Scoring(folder, fingerprint)
    point, calibration = scoring.calibration.point(), scoring.calibration.calibration
    rows = np.random.default_rng(0).standard_normal((2, 192)) + 1
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    score = scoring.score(first, second)
    return score, calibration.llr(score), point, scoring.unit


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """Changed in a byte: anywhere, or near either end, where files say what they are; or cut."""
    random = np.random.default_rng(seed)
    for number in range(TRIED):
        changed = bytearray(content)
        near = min(len(content), 400)
        place = [
            random.integers(len(content)),
            random.integers(near),
            random.integers(len(content)),
            len(content) - 1 - random.integers(near),
        ][number % 4]
        changed[int(place)] ^= int(1 << random.integers(8))
        yield bytes(changed)
    for count in (0, 1, len(content) // 2, len(content) - 1):
        yield content[:count]
    yield content + b"\0"
    yield content + b" "
    yield content * 2


def same_or_refused(file: Path, ask: Callable[[], Answer], least: float = 1) -> None:
    """Damage ``file`` in many ways; a share of ``least`` of them must be noticed."""
    expected, content = ask(), file.read_bytes()
    noticed = []
    for changed in damaged(content, len(file.name)):
        file.write_bytes(changed)
        try:
            assert ask() == expected
        except CheckpointError as error:
            noticed.append(str(error))
    assert all(str(file) in message for message in noticed)
    assert len(noticed) >= least * TRIED
    file.write_bytes(content)
    assert ask() == expected


@pytest.mark.parametrize("name", [ONNX_FILE, MODEL_FILE])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_damage_makes_another_embedding(
    folder: Path, sound: Callable[..., Any], engine: str, name: str
) -> None:
    pytest.importorskip(engine)
    clips = [sound(9_000), sound(9_000, 1)]
    unread = engine == "torch" and name == ONNX_FILE
    same_or_refused(folder / name, lambda: answer(folder, engine, clips), not unread)


@pytest.mark.parametrize(("name", "least"), [(COHORT_FILE, 1), (NORMALISED_FILE, 0.7)])
def test_no_damage_makes_another_decision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, least: float
) -> None:
    """Some of JSON is white space."""
    fingerprint = checkpoint.fingerprint(folder / MODEL_FILE)
    monkeypatch.setattr("test_damage.TRIED", 300)
    same_or_refused(folder / name, lambda: decision(folder, fingerprint), least)


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_no_damage_to_a_network_that_holds_its_weights(
    alone: Path, sound: Callable[..., Any], engine: str
) -> None:
    if engine == "openvino":
        pytest.importorskip(engine)
    clips = [sound(9_000), sound(9_000, 1)]
    same_or_refused(alone / ONNX_FILE, lambda: answer(alone, engine, clips))


def test_a_damaged_network_is_not_passed_over_for_torch(folder: Path) -> None:
    content = bytearray((folder / ONNX_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ONNX_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged.*Copy it again.*export --to onnx"):
        engines.load(folder)


def test_the_byte_that_made_everybody_match(tmp_path: Path) -> None:
    if not (SHIPPED / "guard-int8" / ONNX_FILE).is_file():
        pytest.skip("no weights here")
    content = bytearray((SHIPPED / "guard-int8" / ONNX_FILE).read_bytes())
    content[602_077] = 0x7F
    (tmp_path / ONNX_FILE).write_bytes(content)
    for engine in ("auto", "onnxruntime", "openvino"):
        with pytest.raises(CheckpointError, match=r"model\.onnx: is damaged"):
            engines.load(tmp_path, engine)


@pytest.mark.parametrize(
    "name", ["guard", "guard-int8", "hardened", "fused", "campplus", "resemblyzer"]
)
def test_what_is_shipped_is_sealed(name: str) -> None:
    folder = SHIPPED / name
    if not folder.is_dir():
        pytest.skip("no weights here")
    for path in folder.glob("calibration*.json"):
        CalibrationFile.load(path)
    if (folder / ONNX_FILE).is_file():
        seal.check(folder / ONNX_FILE, "")
        Cohort.load(folder / COHORT_FILE)


def test_the_fingerprints_are_as_they_were() -> None:
    """Those that profiles, thresholds and reports carry; the digest changes none."""
    onnx = pytest.importorskip("onnx")
    if not (SHIPPED / "guard-int8" / ONNX_FILE).is_file():
        pytest.skip("no weights here")
    guard, small = engines.load("guard"), engines.load("guard-int8")
    assert guard.fingerprint == "d43afee1ef00b35f"
    graph = onnx.load(SHIPPED / "guard-int8" / ONNX_FILE).graph
    assert small.fingerprint == int8_fingerprint(guard.fingerprint, graph)
    decides = {e.name: Scoring(e.folder, e.fingerprint).decides_by for e in (guard, small)}
    assert decides["guard"].startswith("d43afee1ef00b35f+fb34a469 981573b631a2c78e")
    assert decides["guard-int8"].startswith("d43afee1ef00b35f-int8-698a762a+5905832d d59d407318af")


def test_the_files_of_two_models_do_not_mix(folder: Path, whole: Path, tmp_path: Path) -> None:
    encoder, _ = checkpoint.load(folder)
    encoder.trunk.stages[0].conv.weight.data *= 1.01  # type: ignore[operator, union-attr]
    other = tmp_path / "other"
    fingerprint = checkpoint.save(encoder, other / MODEL_FILE)
    export(other, "onnx")
    rows = Cohort.load(folder / COHORT_FILE).embeddings
    Cohort(rows[1:], fingerprint).save(other / COHORT_FILE)
    made_by = Scoring(other, fingerprint).fingerprint
    thresholds = CalibrationFile.load(folder / NORMALISED_FILE)
    replace(thresholds, model=made_by).save(other / NORMALISED_FILE)
    _ = Verifier(other).calibration
    for name in FILES:
        shutil.copy(other / name, folder / name)
        with pytest.raises(CheckpointError, match="belongs to"):
            _ = Verifier(folder, engine="onnxruntime").calibration
        shutil.copy(whole / name, folder / name)


def test_a_digit_of_a_threshold(folder: Path) -> None:
    path = folder / NORMALISED_FILE
    content = json.loads(path.read_text())
    content["points"]["fa-1%"]["threshold"] -= 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"asnorm\.json: is damaged.*speakerguard calibrate"):
        _ = Verifier(folder).calibration


def unsealed(folder: Path) -> None:
    """As an earlier version would have written it."""
    from safetensors.numpy import save_file

    network = (folder / ONNX_FILE).read_bytes()
    (folder / ONNX_FILE).write_bytes(network[: network.rindex(b"\x72\x4a\x0a\x06sha256")])
    with safe_open(folder / COHORT_FILE, "np") as file:
        about = {name: value for name, value in file.metadata().items() if name != "digest"}
        save_file({"embeddings": file.get_tensor("embeddings")}, folder / COHORT_FILE, about)
    content = json.loads((folder / NORMALISED_FILE).read_text())
    del content["digest"]
    (folder / NORMALISED_FILE).write_text(json.dumps(content))


def test_files_of_earlier_versions_are_refused_until_sealed(
    folder: Path, sound: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [sound(9_000), sound(9_000, 1)]
    expected = answer(folder, "onnxruntime", clips)
    unsealed(folder)
    with pytest.raises(CheckpointError, match=r"states no digest.*speakerguard\.reseal.*Export it"):
        engines.load(folder)
    torch = Verifier(folder, engine="torch")
    with pytest.raises(CheckpointError, match=r"cohort.*states no digest.*speakerguard\.reseal"):
        _ = torch.calibration
    reseal.main([str(folder)])
    assert "sealed model.onnx, cohort.safetensors, calibration" in capsys.readouterr().out
    assert answer(folder, "onnxruntime", clips) == expected
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    reseal.main([str(folder)])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    unsealed(folder)
    reseal.main([str(folder)])
    content = (folder / NORMALISED_FILE).read_text().replace("fa-0.1%", "fa-0.2%")
    (folder / NORMALISED_FILE).write_text(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        reseal.main([str(folder)])  # what is sealed stays so


def test_a_sealed_network_is_onnx_to_others(alone: Path) -> None:
    onnx = pytest.importorskip("onnx")
    network = onnx.load(alone / ONNX_FILE)
    onnx.checker.check_model(network)
    assert network.metadata_props[-1].key == seal.KEY
    assert len({entry.key for entry in network.metadata_props}) == len(network.metadata_props)
