"""Model files of the attacker: what comes back, and what is refused."""

from pathlib import Path

import pytest
import torch

from advgan.networks import checkpoint
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.mel import STANDARD, MelConvention
from advgan.networks.vocoder import NeuralVocoder, VocoderConfig
from speakerguard.errors import CheckpointError, UsageError


def test_checkpoints_come_back_and_nothing_else_passes_for_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Generator(GeneratorConfig(width=8, blocks=1)).eval()
    path = tmp_path / "g" / "model.safetensors"
    fingerprint = checkpoint.save("generator", network, path, about={"steps": 3})
    loaded = checkpoint.load("generator", tmp_path / "g")
    assert (loaded.fingerprint, loaded.convention, loaded.about) == (
        fingerprint, STANDARD, {"steps": 3},
    )  # fmt: skip
    x = torch.randn(1, 80, 20) - 2
    torch.testing.assert_close(loaded.network(x, x), network(x, x), atol=0.02, rtol=0)
    with pytest.raises(CheckpointError, match="expected 'advgan-1' vocoder"):
        checkpoint.load("vocoder", path)
    with pytest.raises(CheckpointError, match=r"no generator 'nobody'.*advgan-train vc"):
        checkpoint.load("generator", "nobody")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"fingerprint.*changed or\s+damaged"):
        checkpoint.load("generator", path)
    path.write_bytes(content[:200])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load("generator", path)


def test_a_folder_called_as_a_shipped_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path / "shipped"))
    monkeypatch.chdir(tmp_path)
    for place in ("shipped/vocoder", "vocoder", "own"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.safetensors").touch()
    for given, found in (
        ("vocoder", "shipped/vocoder"),
        ("./vocoder", "vocoder"),
        (Path("vocoder"), "vocoder"),
        ("own", "own"),
    ):
        path = checkpoint.resolve("vocoder", given)
        assert path.resolve() == tmp_path / found / "model.safetensors"


def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    network = Generator(GeneratorConfig(width=8, blocks=1))
    fingerprint = checkpoint.save("generator", network, path)

    def full(_: object, part: Path, **__: object) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UsageError, match=r"No space left on device.*Make room"):
        checkpoint.save("generator", Generator(GeneratorConfig(width=8, blocks=1)), path)
    assert checkpoint.load("generator", path).fingerprint == fingerprint
    assert list(tmp_path.iterdir()) == [path]


def test_a_vocoder_says_which_it_is_and_another_convention_is_refused(tmp_path: Path) -> None:
    other = MelConvention(f_max=8_000)
    network = NeuralVocoder(VocoderConfig(width=4, hidden=4, blocks=1), other)
    checkpoint.save("vocoder", network, tmp_path / "model.safetensors", other)
    with pytest.raises(CheckpointError, match=r"(?s)another mel convention.*f_max=8000.*11025"):
        checkpoint.load_vocoder(tmp_path)
    assert checkpoint.load_vocoder("griffin-lim").name == "griffin-lim"
    network = NeuralVocoder(VocoderConfig(width=4, hidden=4, blocks=1))
    fingerprint = checkpoint.save("vocoder", network, tmp_path / "model.safetensors")
    assert [checkpoint.load_vocoder(tmp_path).name for _ in range(2)] == [
        f"neural {fingerprint}"
    ] * 2
