import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export import deep_speaker as convert
from speakerguard.export.deep_speaker import from_deep_speaker, provenance, to_deep_speaker
from speakerguard.export.keras_twin import Arrays, weights_of
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder

h5py = pytest.importorskip("h5py")

CONFIG = ModelConfig(
    front_end="deep-speaker", width=4, head="mean", embedding=512, activate_branch=True
)


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    """A small Deep Speaker network with uneven normalisation."""
    torch.manual_seed(0)
    made = SpeakerEncoder(CONFIG)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.1, 0.5)  # type: ignore[arg-type]
    return made.eval()


def biased(encoder: SpeakerEncoder) -> dict[str, Arrays]:
    """The encoder's weights as Keras might hold them: each bias undone by the mean behind it."""
    generator = np.random.default_rng(0)
    weights = weights_of(encoder)
    for name in [name for name in weights if f"{name}_bn" in weights]:
        bias = generator.integers(-8, 8, weights[name]["bias"].shape).astype(np.float32) / 16
        weights[name]["bias"] = bias
        norm = weights[f"{name}_bn"]
        norm["moving_mean"] = norm["moving_mean"] + bias
    return weights


def write_as_keras_2(
    path: Path, weights: dict[str, Arrays], top: str = "", speakers: int = 0
) -> None:
    """The layout tf_keras 2.21 writes, checked against its own files: all layers, used or not."""
    from itertools import count

    layers: dict[str, Arrays] = {"input": {}}
    clipped, adds = count(), count()
    for name, arrays in weights.items():
        if name == "affine":
            layers |= {"reshape": {}, "average": {}}
        layers[name] = arrays
        if name.endswith("_bn"):
            layers[f"clipped_relu_{next(clipped)}"] = {}
        if name.endswith("2b_bn"):
            number = next(adds)
            layers[f"add_{number}" if number else "add"] = {}
            layers[f"clipped_relu_{next(clipped)}"] = {}
    if speakers:
        kernel = np.zeros((512, speakers), np.float32)
        layers["dense"] = {"kernel": kernel, "bias": kernel[0]}
    with h5py.File(path, "w") as file:
        group = file.create_group(top) if top else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.21.0"
        for name, arrays in sorted(layers.items()):
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
            for key, array in arrays.items():
                layer[f"{name}/{key}:0"] = array
        group.create_group("top_level_model_weights").attrs["weight_names"] = []
        if top:
            file.attrs["model_config"] = b"{}"
            optimizer = file.create_group("optimizer_weights")
            optimizer.attrs["weight_names"] = [b"iteration:0"]
            optimizer["iteration:0"] = 265


def ancestor(keras: Any, speakers: int = 0) -> Any:
    """conv_models.py of philipperemy/deep-speaker, a sixteenth as wide, in Keras 2 or 3."""
    layers = keras.layers

    def unit(x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        x = layers.Conv2D(channels, size, strides=stride, padding="same", name=name)(x)
        return layers.ReLU(max_value=20)(layers.BatchNormalization(name=f"{name}_bn")(x))

    inputs = keras.Input((160, 64, 1), name="input")
    x = inputs
    for stage, channels in enumerate((4, 8, 16, 32), 1):
        x = unit(x, channels, 5, 2, f"conv{channels}-s")
        for block in range(3):
            y = unit(x, channels, 3, 1, f"res{stage}_{block}_branch_2a")
            y = unit(y, channels, 3, 1, f"res{stage}_{block}_branch_2b")
            x = layers.ReLU(max_value=20)(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling1D(name="average")(layers.Reshape((-1, 128))(x))
    x = layers.Dense(512, name="affine")(x)
    if speakers:
        x = layers.Dense(speakers, activation="softmax", name="dense")(x)
    model = keras.Model(inputs, x, name="ResCNN")
    generator = np.random.default_rng(0)
    for layer in model.layers:
        arrays = [array + generator.normal(0, 0.1, array.shape) for array in layer.get_weights()]
        if layer.name.endswith("_bn"):
            arrays[3] = np.abs(arrays[3])
        layer.set_weights(arrays)
    return model


def require_same_embeddings(found: SpeakerEncoder, model: Any, keras: Any) -> None:
    """160 frames through both; the ancestor's embedding is its `affine` layer's output."""
    features = torch.randn(2, 160, 64, generator=torch.Generator().manual_seed(3))
    affine = keras.Model(model.input, model.get_layer("affine").output)
    expected = np.asarray(affine(features[..., None].numpy()))
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    with torch.inference_mode():
        embedding = found(features, features=True).numpy()
    assert np.abs(embedding[0] - embedding[1]).max() > 1e-3, "all alike would make this test blind"
    np.testing.assert_allclose(embedding, expected, atol=1e-5, rtol=0)


def require_same_weights(found: SpeakerEncoder, expected: SpeakerEncoder) -> None:
    assert found.config == expected.config
    assert not found.training
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize(("top", "speakers"), [("", 0), ("model_weights", 0), ("model_weights", 7)])
def test_both_published_layouts_are_read(
    encoder: SpeakerEncoder, tmp_path: Path, top: str, speakers: int
) -> None:
    write_as_keras_2(tmp_path / "x.h5", biased(encoder), top, speakers)
    require_same_weights(from_deep_speaker(tmp_path / "x.h5"), encoder)


def test_there_and_back_is_exact(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    to_deep_speaker(encoder, tmp_path / "x.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    back = from_deep_speaker(tmp_path / "x.h5")
    assert back.config == encoder.config
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    with h5py.File(tmp_path / "x.h5") as file:
        kernel = file["conv8-s/conv8-s/kernel:0"]
        assert kernel.shape == (5, 5, 4, 8)
        weight: Any = encoder.get_submodule("trunk.stages.1.conv").weight
        assert kernel[1, 2, 3, 4] == weight[4, 3, 1, 2].item()
        assert not file["conv8-s/conv8-s/bias:0"][:].any()


@pytest.mark.parametrize("name", ["tf_keras", "keras"])
def test_what_keras_writes_is_read_and_what_is_written_keras_reads(
    tmp_path: Path, name: str
) -> None:
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(name)
    model = ancestor(keras)
    whole, softmax, plain = (tmp_path / f"{n}.h5" for n in ("whole", "softmax", "weights"))
    model.save(whole)
    require_same_embeddings(from_deep_speaker(whole), model, keras)
    if name == "tf_keras":
        model.save_weights(plain)
        require_same_embeddings(from_deep_speaker(plain), model, keras)
        larger = ancestor(keras, speakers=7)
        larger.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        larger.fit(np.zeros((2, 160, 64, 1)), np.zeros(2), verbose=0)  # gives adam its state
        larger.save(softmax)
        require_same_embeddings(from_deep_speaker(softmax), larger, keras)
    written = tmp_path / "written.h5"
    to_deep_speaker(from_deep_speaker(whole), written)
    for by_name in (False, True):
        other = ancestor(keras)
        other.set_weights([np.zeros_like(array) for array in other.get_weights()])
        other.load_weights(written, **({"by_name": True} if by_name else {}))
        require_same_embeddings(from_deep_speaker(whole), other, keras)


def test_a_missing_truncated_or_foreign_file_is_refused(
    encoder: SpeakerEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        from_deep_speaker(path)
    write_as_keras_2(path, biased(encoder))
    content = path.read_bytes()
    for kept in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match="not a whole HDF5 file"):
            from_deep_speaker(path)
    path.write_bytes(b"PK\x03\x04" + bytes(2000))
    with pytest.raises(CheckpointError, match="not a whole HDF5 file"):
        from_deep_speaker(path)
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros(3)
    with pytest.raises(CheckpointError, match=r"expected the attribute 'layer_names'"):
        from_deep_speaker(path)
    write_as_keras_2(path, {"block1_conv1": {"kernel": np.zeros((3, 3, 3, 64), np.float32)}})
    with pytest.raises(CheckpointError, match=r"no first convolution.*found: block1_conv1"):
        from_deep_speaker(path)


@pytest.mark.parametrize(
    ("layer", "weight", "value", "message"),
    [
        ("res2_1_branch_2a", "", None, r"layer res2_1_branch_2a is missing; expected kernel \(3, "),
        ("affine", "bias", None, r"layer affine holds kernel; expected kernel \(128, 512\), bias"),
        ("affine", "kernel", np.zeros((128, 256)), r"has shape \(128, 256\), expected \(128, 512"),
        ("conv4-s", "kernel", np.zeros((5, 5, 1, 2)), "has 2 channels; expected 4 to 128"),
        ("conv8-s_bn", "gamma", np.zeros(9), r"gamma of layer conv8-s_bn has shape \(9,\), .*8"),
        ("conv8-s_bn", "beta", np.full(8, np.nan), "not finite"),
        ("conv8-s_bn", "moving_variance", np.full(8, -1.0), "negative"),
        ("conv8-s_bn", "beta", np.zeros(8, np.int64), "is of type int64, expected float32"),
        ("lstm", "kernel", np.zeros((3, 3)), r"it has the layers lstm as well"),
        ("dense", "kernel", np.zeros((128, 9)), r"it has the layers dense as well"),
    ],
)
def test_what_does_not_fit_is_named(
    encoder: SpeakerEncoder, tmp_path: Path, layer: str, weight: str, value: Any, message: str
) -> None:
    weights = biased(encoder)
    if not weight:
        del weights[layer]
    elif value is None:
        del weights[layer][weight]
    else:
        weights.setdefault(layer, {})[weight] = value
    write_as_keras_2(tmp_path / "x.h5", weights)
    with pytest.raises(CheckpointError, match=r"x\.h5: .*" + message):
        from_deep_speaker(tmp_path / "x.h5")


def test_only_deep_speakers_network_is_written(tmp_path: Path) -> None:
    for update, message in (
        ({"head": "tdnn"}, "head 'tdnn' instead of 'mean'"),
        ({"activate_branch": False}, "activate_branch False instead of True"),
        ({"front_end": "logmel", "embedding": 32}, "front_end .*, embedding 32 instead of 512"),
    ):
        other = SpeakerEncoder(CONFIG.model_copy(update=update))
        with pytest.raises(UsageError, match=message):
            to_deep_speaker(other, tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_provenance_is_stated(
    encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ResCNN_triplet_training_checkpoint_265.h5"
    write_as_keras_2(path, weights_of(encoder))
    assert "is NOT the public ResCNN_triplet" in provenance(path)
    renamed = path.rename(tmp_path / "mine.h5")
    own = hashlib.sha256(renamed.read_bytes()).hexdigest()
    assert provenance(renamed).startswith("is neither of the public checkpoints")
    assert own in provenance(renamed)
    known = convert.Published("known.h5", renamed.stat().st_size, own)
    monkeypatch.setattr(convert, "PUBLISHED", (known,))
    assert provenance(renamed).startswith("is the public known.h5")
    assert "published Git LFS pointers" in provenance(renamed)
    changed = bytearray(renamed.read_bytes())
    changed[-1] ^= 1
    renamed.write_bytes(changed)
    assert provenance(renamed).startswith("is NOT the public known.h5")


def test_the_command_converts_both_ways_and_overwrites_nothing(
    encoder: SpeakerEncoder, tmp_path: Path
) -> None:
    write_as_keras_2(tmp_path / "a.h5", weights_of(encoder))
    command = [sys.executable, "-m", "speakerguard", "convert", "a.h5", "guard"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.h5 is neither of the public checkpoints" in done.stdout
    loaded, fingerprint = checkpoint.load(tmp_path / "guard")
    assert fingerprint in done.stdout
    require_same_weights(loaded, encoder)
    with pytest.raises(UsageError, match=r"model\.safetensors is there already"):
        convert.convert(tmp_path / "a.h5", tmp_path / "guard")
    convert.convert(tmp_path / "guard", tmp_path / "b.h5")
    require_same_weights(from_deep_speaker(tmp_path / "b.h5"), encoder)
    with pytest.raises(UsageError, match=r"b\.h5 is there already"):
        convert.convert(tmp_path / "guard", tmp_path / "b.h5")


def test_one_side_must_be_a_keras_file(tmp_path: Path) -> None:
    for source, out in (("a.h5", "b.h5"), ("a", "b")):
        with pytest.raises(UsageError, match=r"exactly one of them .* \.h5 or \.hdf5"):
            convert.convert(tmp_path / source, tmp_path / out)
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(CheckpointError):
        convert.convert(tmp_path / "a.h5", tmp_path / "b")
    assert not (tmp_path / "b").exists()
