from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export.keras_twin import (
    build,
    encoder_of,
    from_torch,
    named,
    to_torch,
    weights_of,
)
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder

pytest.importorskip("tensorflow")

Head = Literal["mean", "tdnn"]
HEADS: tuple[Head, ...] = ("mean", "tdnn")
FRAMES = (1, 2, 15, 16, 17, 33, 98, 160, 161)


def trained(head: Head, activate_branch: bool = False) -> SpeakerEncoder:
    """A small network whose weights and statistics are as uneven, and fit, as a trained one's."""
    torch.manual_seed(0)
    encoder = SpeakerEncoder(
        ModelConfig(
            width=4, head=head, tdnn_channels=16, embedding=32, activate_branch=activate_branch
        )
    )
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0  # one batch is all they see
    with torch.no_grad():
        encoder(3 * torch.rand(8, 1, 1) * torch.randn(8, 64, 64), features=True)
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean += 0.3 * norm.running_var.sqrt() * torch.randn(norm.num_features)
            norm.running_var *= 0.7 + torch.rand(norm.num_features)
    return encoder.eval()


def features(frames: int) -> torch.Tensor:
    return torch.randn(2, frames, 64, generator=torch.Generator().manual_seed(frames))


def in_torch(encoder: SpeakerEncoder, frames: int) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return encoder(features(frames), features=True).numpy()


def in_keras(model: Any, frames: int) -> np.ndarray[Any, Any]:
    embeddings: np.ndarray[Any, Any] = model(features(frames)[..., None].numpy()).numpy()
    return embeddings


def state(encoder: SpeakerEncoder) -> dict[str, torch.Tensor]:
    return {n: t for n, t in encoder.state_dict().items() if not n.endswith("batches_tracked")}


@pytest.fixture(scope="module", params=HEADS)
def pair(request: pytest.FixtureRequest) -> tuple[SpeakerEncoder, Any]:
    encoder = trained(request.param)
    return encoder, from_torch(encoder)


def test_same_weights_same_embeddings_for_any_length(pair: tuple[SpeakerEncoder, Any]) -> None:
    encoder, twin = pair
    found = {frames: in_keras(twin, frames) for frames in FRAMES}
    for frames, embeddings in found.items():
        assert embeddings.shape == (2, 32)
        np.testing.assert_allclose(embeddings, in_torch(encoder, frames), atol=1e-5, rtol=0)
    assert np.abs(found[160] - found[161]).max() > 1e-3, "all alike would make this test blind"
    assert np.abs(found[160][0] - found[160][1]).max() > 1e-3


def test_activated_branches_differ_and_agree() -> None:
    activated = trained("mean", activate_branch=True)
    plain = SpeakerEncoder(activated.config.model_copy(update={"activate_branch": False})).eval()
    plain.load_state_dict(activated.state_dict())
    assert np.abs(in_torch(plain, 33) - in_torch(activated, 33)).max() > 1e-3
    np.testing.assert_allclose(
        in_keras(from_torch(activated), 33), in_torch(activated, 33), atol=1e-5, rtol=0
    )


def test_round_trip_is_exact(pair: tuple[SpeakerEncoder, Any]) -> None:
    encoder, twin = pair
    back = to_torch(twin, encoder.config)
    assert not back.training
    assert state(back).keys() == state(encoder).keys()
    for name, tensor in state(back).items():
        assert torch.equal(tensor, state(encoder)[name]), name


@pytest.mark.parametrize("head", HEADS)
def test_biases_before_normalisation_move_into_the_mean(head: Head) -> None:
    config = trained(head).config
    twin = from_torch(trained(head))
    before = in_keras(twin, 49)
    generator = np.random.default_rng(0)
    for weight in twin.weights:
        if weight.path.endswith("/bias"):
            weight.assign(generator.normal(0, 0.1, weight.shape))
    assert np.abs(in_keras(twin, 49) - before).max() > 1e-2
    encoder = to_torch(twin, config)
    for frames in (16, 49):
        np.testing.assert_allclose(
            in_torch(encoder, frames), in_keras(twin, frames), atol=1e-5, rtol=0
        )


def test_every_tensor_comes_from_the_file() -> None:
    for head in HEADS:
        encoder = trained(head)
        copied = encoder_of(encoder.config, weights_of(encoder), "test")
        for name, tensor in state(copied).items():
            assert torch.equal(tensor, state(encoder)[name]), name


def test_layers_have_the_ancestors_names() -> None:
    with torch.device("meta"):
        names = list(named(SpeakerEncoder(ModelConfig(width=64, head="mean", embedding=512))))
    assert names[:4] == ["conv64-s", "conv64-s_bn", "res1_0_branch_2a", "res1_0_branch_2a_bn"]
    assert names[-3:] == ["res4_2_branch_2b", "res4_2_branch_2b_bn", "affine"]
    assert len(names) == 57
    twin = build(ModelConfig(width=4, head="mean"))
    assert [layer.name for layer in twin.layers if layer.weights] == list(
        named(SpeakerEncoder(ModelConfig(width=4, head="mean")))
    )


def test_the_twin_survives_a_keras_file(pair: tuple[SpeakerEncoder, Any], tmp_path: Path) -> None:
    import keras

    encoder, twin = pair
    twin.save(tmp_path / "twin.keras")
    again = keras.saving.load_model(tmp_path / "twin.keras")
    np.testing.assert_array_equal(in_keras(again, 33), in_keras(twin, 33))
    affine = to_torch(again, encoder.config).get_parameter("head.affine.weight")
    assert torch.equal(affine, encoder.get_parameter("head.affine.weight"))


def test_heads_without_a_twin_are_refused() -> None:
    config = ModelConfig(width=4, head="embedding-conv")
    with pytest.raises(UsageError, match="'embedding-conv' has no twin in Keras; mean and tdnn"):
        build(config)
    with pytest.raises(UsageError, match="no twin"):
        from_torch(SpeakerEncoder(config))


def test_a_model_of_another_kind_is_refused(pair: tuple[SpeakerEncoder, Any]) -> None:
    encoder, twin = pair
    wider = encoder.config.model_copy(update={"width": 5})
    with pytest.raises(CheckpointError, match=r"layer conv5-s is missing; expected kernel \(5, 5"):
        to_torch(twin, wider)
    longer = encoder.config.model_copy(update={"embedding": 40})
    with pytest.raises(
        CheckpointError, match=r"kernel of layer affine has shape .*, expected .*40"
    ):
        to_torch(twin, longer)


def test_tensorflow_is_not_imported_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, speakerguard.export.deep_speaker, speakerguard.export.keras_twin\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'h5py'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
