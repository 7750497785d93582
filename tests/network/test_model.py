from typing import Literal, get_args

import numpy as np
import pytest
import torch
from torch import nn

from speakerguard.errors import UsageError
from speakerguard.network.config import ModelConfig
from speakerguard.network.front_end import FRONT_ENDS
from speakerguard.network.model import (
    CEILING,
    HEADS,
    EmbeddingConvHead,
    MeanHead,
    ResCNN,
    SpeakerEncoder,
    Stage,
    TdnnHead,
    clipped_relu,
)

Head = Literal["tdnn", "mean", "embedding-conv", "embedding-dense"]
FrontEnd = Literal["logmel", "deep-speaker"]


def small(head: Head = "tdnn", front_end: FrontEnd = "logmel", seed: int = 0) -> SpeakerEncoder:
    """A small network whose batch normalisation is as uneven as a trained one's."""
    torch.manual_seed(seed)
    config = ModelConfig(front_end=front_end, head=head, width=4, tdnn_channels=16, embedding=32)
    encoder = SpeakerEncoder(config)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        elif isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
            nn.init.zeros_(module.bias)  # which would drown the clip in the ablation heads
    return encoder.eval()


def clips(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(n, generator=generator) for n in lengths]


def test_the_tests_know_every_head_and_front_end() -> None:
    assert set(get_args(Head)) == set(HEADS)
    assert set(get_args(FrontEnd)) == set(FRONT_ENDS)


@pytest.mark.parametrize("front_end", get_args(FrontEnd))
@pytest.mark.parametrize("head", get_args(Head))
def test_batched_equals_alone(head: Head, front_end: FrontEnd) -> None:
    encoder = small(head, front_end)
    sounds = clips(8_000, 8_001, 11_234, 16_000, 30_079)
    batch = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    lengths = torch.tensor([len(sound) for sound in sounds])
    with torch.inference_mode():
        together = encoder(batch, lengths)
        alone = torch.cat([encoder(sound[None]) for sound in sounds])
        features = encoder.front_end(batch, lengths)
        from_features = encoder(features, encoder.front_end.frames(lengths), features=True)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(from_features, together, atol=1e-6, rtol=0)
    spread = (together[0] - together[3]).abs().max()
    assert spread > 1e-3, "embeddings all alike would make this test blind"


@pytest.mark.parametrize("head", get_args(Head))
def test_any_length_from_half_a_second_on(head: Head) -> None:
    encoder = small(head)
    for sound in clips(8_000, 8_159, 8_160, 9_601, 16_001, 160_000):
        with torch.inference_mode():
            embedding = encoder(sound[None])
        assert embedding.shape == (1, encoder.config.dimension)
        assert embedding.norm().item() == pytest.approx(1, abs=1e-5)


def test_a_clip_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UsageError, match="too short"):
        small()(torch.zeros(1, 399))


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 48, 98])
def test_trunk_gives_a_sixteenth_of_the_frames(frames: int) -> None:
    trunk = ResCNN(4).eval()
    output, count = trunk(torch.randn(2, frames, 64), torch.tensor([frames, 1]))
    assert output.shape == (2, 32 * 4, -(-frames // 16))
    assert count is not None
    assert count.tolist() == [-(-frames // 16), 1]


def test_trunk_keeps_bands_outermost_as_keras_flattens_them() -> None:
    class Known(nn.Module):
        def forward(self, x: torch.Tensor, count: torch.Tensor | None) -> torch.Tensor:
            return maps

    maps = torch.randn(2, 32, 6, 4)  # (B, C, T, F)
    trunk = ResCNN(4)
    trunk.stages = nn.ModuleList([Known()])
    output, _ = trunk(torch.zeros(2, 96, 64))
    keras = maps.permute(0, 2, 3, 1).reshape(2, 6, 128)  # (B, T, F, C) to (B, T, F * C)
    torch.testing.assert_close(output.transpose(1, 2), keras)


def test_tdnn_head_hears_the_order_of_frames_and_the_mean_does_not() -> None:
    torch.manual_seed(0)
    config = ModelConfig(width=4, tdnn_channels=32, embedding=32)
    frames = torch.randn(1, 128, 40)
    shuffled = frames[..., torch.randperm(40)]
    tdnn, mean = TdnnHead(128, config).eval(), MeanHead(128, config).eval()
    conv = EmbeddingConvHead(128, config).eval()
    with torch.inference_mode():
        assert (tdnn(frames) - tdnn(shuffled)).abs().max() > 1e-3
        torch.testing.assert_close(mean(frames), mean(shuffled), atol=1e-5, rtol=0)
        torch.testing.assert_close(conv(frames), conv(shuffled), atol=1e-5, rtol=0)


def test_tdnn_sees_thirteen_frames() -> None:
    torch.manual_seed(0)
    head = TdnnHead(8, ModelConfig(width=4, tdnn_channels=16)).eval()
    frames = torch.randn(1, 8, 41, requires_grad=True)
    x = frames
    for layer in head.layers:
        x = layer(x)
    x[..., 20].sum().backward()
    assert frames.grad is not None
    seen = frames.grad.abs().sum(dim=(0, 1)).nonzero().flatten().tolist()
    assert seen == list(range(14, 27))


def test_a_residual_block_starts_as_the_identity() -> None:
    block = Stage(1, 4).eval().blocks[0]
    x = torch.rand(1, 4, 6, 8) * CEILING
    torch.testing.assert_close(block(x, None), x)


def test_relu_is_clipped_at_twenty() -> None:
    assert clipped_relu(torch.tensor([-1.0, 0.5, 19.0, 21.0])).tolist() == [0.0, 0.5, 19.0, 20.0]


@pytest.mark.parametrize("frames", [2, 16, 98])
def test_convolution_pads_even_sizes_as_tensorflow_does(frames: int) -> None:
    tf = pytest.importorskip("tensorflow")
    torch.manual_seed(0)
    stage = Stage(3, 5).eval()
    stage.blocks = nn.ModuleList()
    x = torch.randn(2, 3, frames, 64)
    kernel = stage.conv.weight.detach().permute(2, 3, 1, 0).numpy()
    expected = tf.nn.conv2d(x.permute(0, 2, 3, 1).numpy(), kernel, strides=2, padding="SAME")
    expected = np.clip(expected.numpy() / np.sqrt(1 + 1e-3), 0, CEILING)
    with torch.inference_mode():
        found = stage(x, None).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("front_end", get_args(FrontEnd))
def test_gradient_reaches_the_waveform_and_is_the_slope(front_end: FrontEnd) -> None:
    encoder = small("mean", front_end).double()
    waveform = clips(8_000)[0].double().requires_grad_()

    def score(x: torch.Tensor) -> torch.Tensor:  # all but the last step, which is float32
        frames, _ = encoder.trunk(encoder.front_end(x[None]))
        return encoder.head(frames)[0, :8].sum()

    (gradient,) = torch.autograd.grad(score(waveform), waveform)
    slope = gradient.norm()
    step = 1e-7 * gradient / slope  # along the gradient, where the slope is largest
    with torch.no_grad():
        measured = (score(waveform + step) - score(waveform - step)) / 2e-7
    assert measured.item() == pytest.approx(slope.item(), rel=1e-3)
    (reached,) = torch.autograd.grad(encoder(waveform[None])[0, 0], waveform)
    assert torch.isfinite(reached).all()
    assert reached.any()


def test_an_activated_branch_learns_from_the_start_and_only_raises() -> None:
    torch.manual_seed(0)
    block = Stage(1, 4, activate_branch=True).blocks[0]
    x = torch.rand(2, 4, 6, 8)
    output = block(x, None)
    assert (output >= x).all()
    output.sum().backward()
    assert block.get_parameter("conv1.weight").grad.any()  # type: ignore[union-attr]


def test_configurations_from_before_the_branch_was_a_choice_stay_as_they_were() -> None:
    written = ModelConfig().model_dump_json()
    assert "activate_branch" not in written
    assert not ModelConfig.model_validate_json(written).activate_branch
    activated = ModelConfig(activate_branch=True)
    assert ModelConfig.model_validate_json(activated.model_dump_json()) == activated
