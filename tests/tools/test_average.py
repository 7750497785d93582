"""The weighted mean of several guards."""

from pathlib import Path

import pytest
import torch
from support.tooling import load_tool

from speakerguard.errors import UsageError
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder

tool = load_tool("average")


def guard(folder: Path, seed: int, channels: int = 16) -> Path:
    torch.manual_seed(seed)
    folder.mkdir()
    encoder = SpeakerEncoder(ModelConfig(width=4, tdnn_channels=channels))
    checkpoint.save(encoder, folder / checkpoint.MODEL_FILE)
    return folder


def test_the_mean_goes_by_the_weights(tmp_path: Path) -> None:
    folders = [guard(tmp_path / str(seed), seed) for seed in (1, 2)]
    states = [checkpoint.load(folder)[0].state_dict() for folder in folders]
    mean = tool.average([tool.part(f"{folders[0]}=1"), tool.part(f"{folders[1]}=3")]).state_dict()
    for name, tensor in mean.items():
        expected = 0.25 * states[0][name] + 0.75 * states[1][name]
        torch.testing.assert_close(tensor, expected.to(tensor.dtype))
    assert not torch.equal(mean["head.affine.weight"], states[0]["head.affine.weight"])


@pytest.mark.parametrize("weight", ["", "=", "=0", "=-1", "=nan", "=inf", "=much"])
def test_a_weight_is_a_number_above_0(tmp_path: Path, weight: str) -> None:
    with pytest.raises(UsageError, match="FOLDER=WEIGHT"):
        tool.part(f"{tmp_path}{weight}")


def test_networks_of_two_shapes_have_no_mean(tmp_path: Path) -> None:
    parts = [tool.part(f"{guard(tmp_path / str(n), 1, n)}=1") for n in (16, 32)]
    with pytest.raises(UsageError, match="configuration"):
        tool.average(parts)
