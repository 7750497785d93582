"""The encoder as ONNX: every configuration, and its front end."""

from pathlib import Path

import pytest
import torch

from speakerguard.export.formats import LENGTHS, TOLERANCE, buzz, export
from speakerguard.export.to_onnx import Exportable
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder


@pytest.mark.parametrize("head", ["mean", "tdnn", "embedding-conv", "embedding-dense"])
@pytest.mark.parametrize("front_end", ["logmel", "deep-speaker"])
def test_every_configuration_exports_to_onnx(tmp_path: Path, head: str, front_end: str) -> None:
    config = ModelConfig.model_validate(
        {"width": 4, "tdnn_channels": 16, "embedding": 32, "head": head, "front_end": front_end}
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = SpeakerEncoder(config)
        with torch.no_grad():
            encoder(0.1 * torch.randn(8, 16_000))
    checkpoint.save(encoder.eval(), tmp_path / checkpoint.MODEL_FILE, half=True)
    done = export(tmp_path, "onnx")
    assert done.difference <= TOLERANCE
    graph = pytest.importorskip("onnx").load(done.path).graph
    makers = {node.output[0]: node.op_type for node in graph.node}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert "Conv" not in {makers.get(node.input[0]) for node in norms}  # folded into its weights


@pytest.mark.parametrize("front_end", ["logmel", "deep-speaker"])
@pytest.mark.parametrize("samples", [*LENGTHS, 0])
def test_the_front_end_is_the_encoders(front_end: str, samples: int) -> None:
    config = ModelConfig.model_validate({"width": 4, "head": "mean", "front_end": front_end})
    encoder = SpeakerEncoder(config).eval()
    exportable = Exportable(encoder)
    clip = torch.from_numpy(buzz(samples or exportable.min_samples, 0))
    torch.testing.assert_close(
        exportable.features(clip), encoder.front_end(clip), atol=2e-3, rtol=1e-3
    )
