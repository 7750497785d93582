import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from speakerguard.embedders import load as engines
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network import checkpoint
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import SpeakerEncoder

CONFIG = ModelConfig(width=4, tdnn_channels=16, embedding=32)


def encoder(seed: int = 0, config: ModelConfig = CONFIG) -> SpeakerEncoder:
    torch.manual_seed(seed)
    made = SpeakerEncoder(config)
    with torch.no_grad():
        made(torch.randn(4, 16_000))  # moves the statistics of batch normalisation
    return made.eval()


def embed(model: SpeakerEncoder) -> torch.Tensor:
    sounds = torch.randn(3, 12_000, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        return model(sounds)


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "guard" / checkpoint.MODEL_FILE
    checkpoint.save(encoder(), path)
    return path


def test_round_trip_is_exact(saved: Path) -> None:
    loaded, fingerprint = checkpoint.load(saved)
    torch.testing.assert_close(embed(loaded), embed(encoder()), atol=0, rtol=0)
    assert loaded.config == CONFIG
    assert not loaded.training
    assert parts(saved)[1]["fingerprint"] == fingerprint
    assert [path.name for path in saved.parent.iterdir()] == [checkpoint.MODEL_FILE]


@pytest.mark.parametrize("head", ["mean", "embedding-conv", "embedding-dense"])
@pytest.mark.parametrize("front_end", ["logmel", "deep-speaker"])
def test_the_file_says_which_network_and_front_end_it_is(
    tmp_path: Path, head: str, front_end: str
) -> None:
    config = ModelConfig.model_validate(
        {"width": 4, "embedding": 32, "head": head, "front_end": front_end}
    )
    checkpoint.save(encoder(config=config), tmp_path / "x.safetensors")
    loaded, _ = checkpoint.load(tmp_path / "x.safetensors")
    assert loaded.config == config
    torch.testing.assert_close(embed(loaded), embed(encoder(config=config)))


def test_half_precision_is_close_and_small(saved: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    assert checkpoint.save(encoder(), half, half=True) != checkpoint.load(saved)[1]
    loaded, _ = checkpoint.load(half)
    cosine = (embed(loaded) * embed(encoder())).sum(dim=1)
    assert cosine.min() > 0.9999
    assert half.stat().st_size < 0.6 * saved.stat().st_size
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {
        torch.float32,
        torch.int64,
    }


def test_fingerprint_is_of_the_weights(saved: Path, tmp_path: Path) -> None:
    first = checkpoint.load(saved)[1]
    assert checkpoint.save(encoder(), tmp_path / "again.safetensors") == first
    state = encoder().state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    assert len(names) > 50
    seen = {first}
    for name in names:
        changed = encoder()
        tensor = changed.state_dict()[name].view(-1)
        tensor[-1] = torch.nextafter(tensor[-1], torch.tensor(9.0))
        seen.add(checkpoint.save(changed, tmp_path / "changed.safetensors"))
    assert len(seen) == len(names) + 1


def test_fingerprint_is_of_the_configuration_too(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    prints = set()
    for name in ("logmel", "deep-speaker"):
        config = CONFIG.model_copy(update={"front_end": name})
        torch.manual_seed(0)
        prints.add(checkpoint.save(SpeakerEncoder(config), path))
    assert len(prints) == 2


@pytest.mark.parametrize("kept", [0, 5, 900, -1])
def test_a_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a whole safetensors file"):
        checkpoint.load(saved)


def test_what_is_no_safetensors_file_is_refused(saved: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, saved)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "speakerguard-model-0"}])
def test_a_file_of_another_program_is_refused(saved: Path, metadata: dict[str, str] | None) -> None:
    save_file(parts(saved)[0], saved, metadata=metadata)
    with pytest.raises(CheckpointError, match="expected 'speakerguard-model-1'"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "config", [None, "not json", "[]", '{"width": 4000}', '{"depth": 3}', '{"head": "lstm"}']
)
def test_an_unknown_configuration_is_refused(saved: Path, config: str | None) -> None:
    state, metadata = parts(saved)
    del metadata["config"]
    save_file(state, saved, metadata=metadata if config is None else metadata | {"config": config})
    with pytest.raises(CheckpointError, match="its configuration cannot be used"):
        checkpoint.load(saved)


def test_a_changed_weight_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-7] ^= 1
    stated = parts(saved)[1]["fingerprint"]
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"expected {stated}"):
        checkpoint.load(saved)


def test_another_configuration_on_the_same_weights_is_noticed(saved: Path) -> None:
    state, metadata = parts(saved)
    config = json.loads(metadata["config"]) | {"front_end": "deep-speaker"}
    save_file(state, saved, metadata=metadata | {"config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="its fingerprint is"):
        checkpoint.load(saved)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int16])
def test_weights_of_another_type_are_refused(saved: Path, kind: torch.dtype) -> None:
    """Such as half-precision bits that are taken for integers; the fingerprint is of the bits."""
    state, metadata = parts(saved)
    save_file({n: t.half().view(kind) for n, t in state.items()}, saved, metadata=metadata)
    for read in (checkpoint.load, checkpoint.fingerprint):
        with pytest.raises(
            CheckpointError, match=r"holds (BF16|I16), where weights are F16 or F32"
        ):
            read(saved)


@pytest.mark.parametrize("config", [None, "{x", "[" * 100_000])
def test_a_fingerprint_needs_a_configuration(saved: Path, config: str | None) -> None:
    state, metadata = parts(saved)
    changed = {n: v for n, v in metadata.items() if n != "config"}
    save_file(state, saved, metadata=changed if config is None else changed | {"config": config})
    with pytest.raises(CheckpointError, match="its configuration cannot be read"):
        checkpoint.fingerprint(saved)


@pytest.mark.parametrize("wrong", [torch.zeros(5), torch.tensor(1.0), torch.zeros(33)])
def test_a_tensor_of_another_shape_is_refused(saved: Path, wrong: torch.Tensor) -> None:
    state, metadata = parts(saved)
    save_file(state | {"head.affine.bias": wrong}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"head.affine.bias has shape .*, expected \(32,\)"):
        checkpoint.load(saved)


def test_no_weight_is_ever_left_random(saved: Path) -> None:
    state, metadata = parts(saved)
    for name in list(state)[::10]:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        save_file(rest, saved, metadata=metadata)
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(saved)
    save_file(state | {"extra.weight": torch.zeros(2)}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"unknown \['extra.weight'\]"):
        checkpoint.load(saved)


def test_names_and_folders_are_found(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(saved.parents[1]))
    for name in ("guard", saved.parent, saved):
        assert checkpoint.resolve(name) == saved.parent
    with pytest.raises(
        CheckpointError, match=r"no model 'gaurd'.*\(guard\)\. Did you mean 'guard'"
    ):
        checkpoint.resolve("gaurd")
    with pytest.raises(CheckpointError, match="no such model file"):
        checkpoint.load(saved.with_name("other.safetensors"))


def test_a_folder_called_as_a_shipped_model_is_not_taken_for_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(saved.parents[1]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place in ("guard", "own", "runs/guard"):
        shutil.copytree(saved.parent, place)
    for given, found in (
        ("guard", saved.parent),
        ("./guard", Path("guard")),
        (Path("guard"), Path("guard")),
        ("own", Path("own")),
        ("runs/guard", Path("runs/guard")),
    ):
        assert checkpoint.resolve(given) == found
    monkeypatch.chdir("guard")
    assert checkpoint.resolve(".") == Path()
    for given in ("./guard", "runs/guard", Path("guard")):  # of that name, but not here
        with pytest.raises(CheckpointError, match="no model"):
            checkpoint.resolve(given)


def test_models_are_listed_whatever_form_they_have(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(saved.parents[1]))
    state, _ = parts(saved)
    for name, metadata in (
        ("vocoder", {"format": "advgan-1", "kind": "vocoder"}),
        ("damaged", None),
    ):
        (saved.parents[1] / name).mkdir()
        save_file(state, saved.parents[1] / name / checkpoint.MODEL_FILE, metadata=metadata)
    (saved.parents[1] / "damaged" / checkpoint.MODEL_FILE).write_bytes(b"x")
    for name in ("guard-int8", "campplus"):
        (saved.parents[1] / name).mkdir()
    (saved.parents[1] / "guard-int8" / checkpoint.ONNX_FILE).touch()
    assert checkpoint.guards() == ["damaged", "guard", "guard-int8"]
    assert checkpoint.available() == ["campplus", "damaged", "guard", "guard-int8", "resemblyzer"]
    for name, says in (
        ("vocoder", "^'vocoder' is a vocoder, which verifies nobody"),
        ("vocodr", r"^no model 'vocodr'.*\(campplus, .*resemblyzer\)\.$"),
        ("camplus", r"Did you mean 'campplus'\?$"),
        ("guard-int", r"Did you mean 'guard-int8'\?$"),
        ("damaged", "not a whole safetensors file"),
    ):
        with pytest.raises(CheckpointError, match=says):
            engines.load(name)
    with pytest.raises(CheckpointError, match=r"model.safetensors nor .* Did you mean 'guard'\?$"):
        checkpoint.resolve("guard-int8")  # where the weights themselves are needed


def test_the_fingerprint_needs_no_tensor(saved: Path) -> None:
    assert checkpoint.fingerprint(saved) == checkpoint.load(saved)[1]
    content = bytearray(saved.read_bytes())
    content[-7] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="its fingerprint is"):
        checkpoint.fingerprint(saved)
    saved.write_bytes(content[:-7])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.fingerprint(saved)
    with pytest.raises(CheckpointError, match="no such model file"):
        checkpoint.fingerprint(saved.with_name("other.safetensors"))


def test_a_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space"):
        checkpoint.save(encoder(seed=1), saved)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("config", [{"width": 2**62}, {"width": 129}, {"tdnn_channels": 10**9}])
def test_no_configuration_is_without_bounds(saved: Path, config: dict[str, int]) -> None:
    state, metadata = parts(saved)
    changed = json.dumps(json.loads(metadata["config"]) | config)
    save_file(state, saved, metadata=metadata | {"config": changed})
    with pytest.raises(CheckpointError, match="its configuration cannot be used"):
        checkpoint.load(saved)


def test_what_does_not_fit_is_never_built(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest network that a configuration may ask for takes over 600 MB."""
    state, metadata = parts(saved)
    config = json.dumps(json.loads(metadata["config"]) | {"width": 128, "tdnn_channels": 2048})
    save_file(state, saved, metadata=metadata | {"config": config})
    built = []

    class Noted(SpeakerEncoder):
        def __init__(self, config: ModelConfig) -> None:
            super().__init__(config)
            built.append({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr("speakerguard.network.model.SpeakerEncoder", Noted)
    with pytest.raises(CheckpointError, match=r"has shape .*, expected"):
        checkpoint.load(saved)
    assert built == [{"meta"}]
