"""Model files of the attacker: what comes back, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advgan.networks import checkpoint
from advgan.networks.discriminator import Discriminator, DiscriminatorConfig
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.mel import STANDARD, MelConvention
from advgan.networks.perturber import Perturber, PerturberConfig
from advgan.networks.vocoder import NeuralVocoder, VocoderConfig
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network.checkpoint import read_tensors, write_tensors


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


HUGE = 2**62


@pytest.mark.parametrize(
    ("kind", "network", "config"),
    [
        ("generator", Generator(GeneratorConfig(width=8, blocks=1)), config)
        for config in (
            {"width": HUGE}, {"width": 2000}, {"width": -8}, {"width": 8.5}, {"width": None},
            {"blocks": HUGE}, {"blocks": 31}, {"blocks": 0}, {"bands": HUGE}, {"content": HUGE},
            {"embedding": HUGE}, {"embedding": 4000}, {"guidance": float("inf")},
            {"guidance": float("nan")}, {"unknown": 1}, {"legacy": "perhaps"},
        )
    ]
    + [
        ("vocoder", NeuralVocoder(VocoderConfig(width=4, hidden=4, blocks=1)), config)
        for config in (
            {"hidden": HUGE}, {"hidden": 8000}, {"blocks": HUGE}, {"iterations": HUGE},
            {"width": "many"},
        )
    ]
    + [
        ("perturber", Perturber(PerturberConfig(width=4, blocks=1)), config)
        for config in (
            {"window": HUGE}, {"window": 4096}, {"blocks": HUGE}, {"blocks": 12}, {"width": HUGE},
            {"epsilon": 9.0},
        )
    ]
    + [
        ("discriminator", Discriminator(DiscriminatorConfig(width=2)), config)
        for config in ({"width": HUGE}, {"width": 500}, {"layers": HUGE}, {"layers": 1.5})
    ],
)  # fmt: skip
def test_no_description_makes_it_build_more_than_the_file_holds(
    kind: str, network: torch.nn.Module, config: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "model.safetensors"
    checkpoint.save(kind, network, path)
    metadata, state = read_tensors(path, "pt")
    own = json.loads(metadata["config"]) | config
    text = json.dumps(own)
    metadata |= {"config": text, "fingerprint": checkpoint._fingerprint(text, state)}
    write_tensors(path, state, metadata)
    build = checkpoint.KINDS[kind].build

    def built(config: Any) -> torch.nn.Module:
        made = build(config)
        assert all(tensor.is_meta for tensor in made.parameters())
        return made

    kinds = checkpoint.KINDS | {kind: replace(checkpoint.KINDS[kind], build=built)}
    monkeypatch.setattr(checkpoint, "KINDS", kinds)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        checkpoint.load(kind, path)


@pytest.mark.parametrize("key", ["config", "mel", "about"])
@pytest.mark.parametrize("text", [None, "", "[]", "null", "{", "[" * 100_000, '{"width": 1e400}'])
def test_a_description_that_is_none(key: str, text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save("generator", Generator(GeneratorConfig(width=8, blocks=1)), path)
    metadata, state = read_tensors(path, "pt")
    metadata.pop(key)
    metadata.pop("digest", None)  # as of an earlier version, whose description nothing vouches for
    write_tensors(path, state, metadata | ({} if text is None else {key: text}))
    if (key, text) == ("about", '{"width": 1e400}'):  # it may say anything
        checkpoint.load("generator", path)
        return
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        checkpoint.load("generator", path)


@pytest.mark.parametrize("kind", [torch.int64, torch.float64, torch.bool])
def test_tensors_of_another_type(kind: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save("generator", Generator(GeneratorConfig(width=8, blocks=1)), path)
    metadata, state = read_tensors(path, "pt")
    write_tensors(path, state | {"decoder.last.bias": torch.zeros(80, dtype=kind)}, metadata)
    with pytest.raises(CheckpointError, match="weights are F16 or F32"):
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

    def full(part: Path, content: bytes) -> int:
        with part.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
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


def test_a_changed_description_is_noticed(tmp_path: Path) -> None:
    """Such as the calibration of a detector, which its fingerprint does not cover."""
    path = tmp_path / "model.safetensors"
    network = Discriminator(DiscriminatorConfig(width=8, layers=2))
    checkpoint.save("discriminator", network, path, about={"scale": 1.25, "offset": 0.5})
    assert checkpoint.load("discriminator", path).about == {"scale": 1.25, "offset": 0.5}
    content = path.read_bytes()
    assert content.count(b"1.25") == 1
    path.write_bytes(content.replace(b"1.25", b"9.25"))
    with pytest.raises(CheckpointError, match=r"description is not what its digest says.*Copy"):
        checkpoint.load("discriminator", path)
