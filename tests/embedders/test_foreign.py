"""Other people's ONNX models, described by a file."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard.embedders import load as engines
from speakerguard.embedders.foreign import ForeignEmbedder
from speakerguard.errors import CheckpointError, ConfigError, NoSpeechError, UsageError
from speakerguard.export.formats import export
from speakerguard.sound.filterbank import WINDOWS, fbank, kaldi_filters
from speakerguard.verification.verifier import Verifier

onnx = pytest.importorskip("onnx")
Sound = Callable[..., Any]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network of fbank (1, frames, 80): mean and largest value of each band, 160 values."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Concat", ["mean", "most"], ["y"], axis=1),
    ]
    entry = helper.make_tensor_value_info("x", kind, [1, "frames", 80])
    exit = helper.make_tensor_value_info("y", kind, [1, 160])
    graph = helper.make_graph(nodes, "net", [entry], [exit])
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def described(network: Path, text: str) -> Path:
    path = network.with_name("other.yaml")
    path.write_text(f"onnx: {network.name}\n{text}")
    return path


def test_the_front_end_is_as_described(network: Path, sound: Sound) -> None:
    clip = sound(20_000)
    file = described(network, "input: fbank\nscale: 32768\nsubtract_mean: false\n")
    embedder = engines.load(file)
    (embedding,) = embedder.embed([clip])
    bands = fbank(clip * 32_768, kaldi_filters(80, 20, 8_000), WINDOWS["povey"])
    expected = np.concatenate([bands.mean(axis=0), bands.max(axis=0)])
    np.testing.assert_allclose(embedding, expected / np.linalg.norm(expected), atol=1e-6)
    assert (embedder.name, embedder.dimension, embedder.min_samples) == ("other", 160, 4_000)
    assert embedder.folder == network.parent / "other"
    changed = engines.load(described(network, "input: fbank\nscale: 1\n"))
    assert changed.fingerprint != embedder.fingerprint


def test_a_waveform_model(tiny_model: Path, tmp_path: Path, sound: Sound) -> None:
    export(tiny_model, "onnx", tmp_path / "whole.onnx")
    file = described(tmp_path / "whole.onnx", "input: waveform\n")
    clip = sound(30_000)
    found, expected = engines.load(file).embed([clip]), engines.load(tiny_model).embed([clip])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("input: fbank\nlayout: bands-time\n", "does not take what this file describes"),
        ("input: fbank\nbands: 40\n", "does not take what this file describes"),
        ("input: waveform\n", "does not take what this file describes"),
    ],
)
def test_what_does_not_fit_is_refused(network: Path, text: str, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        ForeignEmbedder(described(network, text))


def test_the_shortest_clip_is_what_the_file_says(
    network: Path, sound: Sound, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    file = described(network, "input: fbank\nmin_seconds: 60\n")
    embedder = engines.load(file)
    assert embedder.min_samples == 960_000
    embedder.embed([sound(960_000)])
    with pytest.raises(UsageError, match="a clip of 959999 samples is too short; 960000 are"):
        embedder.embed([sound(959_999)])
    guard = Verifier(file, str(tmp_path / "profiles.db"))
    (short, *_) = next(iter(speech.values()))
    with pytest.raises(NoSpeechError, match=f"{short.name}: .* s of speech, but other needs 60"):
        guard.enroll("alice", [short])
    assert guard.profiles() == []


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["scale", "low", "high", "min_seconds"])
def test_numbers_are_finite(network: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"other.yaml: {key}: "):
        ForeignEmbedder(described(network, f"input: fbank\n{key}: {value}\n"))


def test_an_output_of_frames_is_no_embedding(network: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, "frames", 80]
    entry, exit = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [entry], [exit])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), network)
    with pytest.raises(CheckpointError, match="the output grows with the recording"):
        ForeignEmbedder(described(network, "input: fbank\n"))


def test_wrong_descriptions(network: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'band'; did you mean 'bands'"):
        ForeignEmbedder(described(network, "input: fbank\nband: 3\n"))
    with pytest.raises(UsageError, match="ONNX Runtime alone"):
        engines.load(described(network, "input: fbank\n"), "torch")
    with pytest.raises(ConfigError, match="low must be under high"):
        ForeignEmbedder(described(network, "input: fbank\nlow: 5000\nhigh: 4000\n"))
    network.unlink()
    with pytest.raises(CheckpointError, match=r"net.onnx, which is not there"):
        ForeignEmbedder(described(network, "input: fbank\n"))


def test_weights_in_another_file_count_as_well(
    tiny_model: Path, tmp_path: Path, sound: Sound
) -> None:
    export(tiny_model, "onnx", tmp_path / "whole.onnx")
    network = onnx.load(tmp_path / "whole.onnx")
    onnx.save(network, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data")
    file = described(tmp_path / "apart.onnx", "input: waveform\n")
    embedder = engines.load(file)
    whole = engines.load(described(tmp_path / "whole.onnx", "input: waveform\n"))
    clip = sound(30_000)
    np.testing.assert_allclose(embedder.embed([clip]), whole.embed([clip]), rtol=0, atol=1e-6)
    described(tmp_path / "apart.onnx", "input: waveform\n")
    weights = bytearray((tmp_path / "apart.data").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "apart.data").write_bytes(weights)
    assert engines.load(file).fingerprint != embedder.fingerprint
    (tmp_path / "apart.data").unlink()
    with pytest.raises(CheckpointError, match=r"apart\.onnx: names weights that cannot be read"):
        engines.load(file)


def test_a_digest_that_is_stated_must_be_right(network: Path) -> None:
    plain = engines.load(described(network, "input: fbank\n"))
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    file = described(network, f"input: fbank\nsha256: {digest}\n")
    assert engines.load(file).fingerprint == plain.fingerprint
    network.write_bytes(network.read_bytes() + b"\x72\x00")
    with pytest.raises(CheckpointError, match=r"net\.onnx: its SHA-256 is not the one described"):
        engines.load(file)
    with pytest.raises(ConfigError, match="sha256"):
        engines.load(described(network, "input: fbank\nsha256: short\n"))
