"""Training every part on a few real clips, the guard in the loss, what checkpoints refuse."""

import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from advgan import batches, checkpoint, loop, vocoding
from advgan.adversarial import ConvertTask, PerturbTask
from advgan.batches import Crops, crop_samples, read_pairs, spread
from advgan.config import AdversarialConfig, DetectorConfig, RunConfig, VcConfig, VocoderRunConfig
from advgan.conversion import VcTask, swap_halves
from advgan.detector import DetectorTask
from advgan.generator import Generator, GeneratorConfig
from advgan.guard import GuardLoss
from advgan.judge import Detector
from advgan.loop import Loop, Task
from advgan.manifest import append, write_manifest
from advgan.mel import STANDARD, MelConvention, MelSpectrogram, from_guard
from advgan.train import main
from advgan.vocoder import GriffinLim, NeuralVocoder, VocoderConfig
from advgan.vocoding import VocoderTask
from speakerguard.audio import SAMPLE_RATE, read
from speakerguard.config import load_as
from speakerguard.errors import CheckpointError, ConfigError, SpeakerguardError, UsageError

TASKS: dict[str, tuple[type[RunConfig], type[Task]]] = {
    "vc": (VcConfig, VcTask),
    "vocoder": (VocoderRunConfig, VocoderTask),
    "convert": (AdversarialConfig, ConvertTask),
    "perturb": (AdversarialConfig, PerturbTask),
    "discriminator": (DetectorConfig, DetectorTask),
}
SMALL: dict[str, dict[str, Any]] = {
    "vc": {"model": {"width": 8, "blocks": 2}},
    "vocoder": {
        "model": {"width": 8, "hidden": 8, "blocks": 1},
        "adversarial": 0.1,
        "dnsmos_weight": 0,
        "discriminator": {"width": 2},
    },
    "convert": {
        "model": {"width": 8, "blocks": 2},
        "discriminator": {"width": 2},
        "iterations": 1,
    },
    "perturb": {
        "mode": "perturb",
        "perturber": {"width": 8, "blocks": 2, "embedding": 192},
        "discriminator": {"width": 2},
    },
    "discriminator": {"model": {"width": 2}, "copies": 1},
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "plot_history", lambda *_: None)
    monkeypatch.setattr(batches, "default_workers", lambda: 1)


@pytest.fixture(scope="module")
def corpus(speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real clips: ``train`` and ``dev`` folders, a list of pairs, and a cache."""
    root = tmp_path_factory.mktemp("attacked")
    names = sorted(speech)
    for name, files in speech.items():
        for index, file in enumerate(files):
            to = root / ("train" if index < 2 else "dev") / name / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    kept = {name: sorted((root / "dev" / name).iterdir()) for name in names}
    lines = [
        "\t".join(f"{p.parent.name}/{p.name}" for p in (kept[a][0], kept[b][0], kept[b][1]))
        for a, b in itertools.pairwise(names)
    ]
    (root / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def make(corpus: Path, tiny_model: Path) -> Callable[..., RunConfig]:
    """Builds a small configuration of a kind."""

    def build(kind: str, out: Path, **more: Any) -> RunConfig:
        content: dict[str, Any] = {
            "out": out,
            "data": {
                "train": corpus / "train",
                "dev": corpus / "dev",
                "dev_pairs": corpus / "pairs.tsv",
                "cache": corpus / "cache",
            },
            "steps": 2,
            "batch": 2,
            "frames": 64,
            "warmup": 0,
            "evaluate_every": 1,
            "dev_size": 2,
        }
        if kind in {"convert", "perturb"}:
            content["guard"] = str(tiny_model)
        return TASKS[kind][0].model_validate(content | SMALL[kind] | more)

    return build


def quiet(_: str) -> None:
    """A report that nobody reads."""


def run(kind: str, config: RunConfig, report: Callable[[str], None] = quiet) -> Loop:
    made = Loop(config, TASKS[kind][1](config, report), report)  # type: ignore[call-arg]
    made.run()
    return made


@pytest.mark.parametrize("kind", TASKS)
def test_a_killed_run_ends_where_an_unbroken_one_does(
    make: Callable[..., RunConfig], tmp_path: Path, kind: str
) -> None:
    def kill(line: str) -> None:
        if line.startswith("step 1: on dev"):
            raise KeyboardInterrupt

    whole = run(kind, make(kind, tmp_path / "whole"))
    broken = make(kind, tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(kind, broken, kill)
    torch.manual_seed(99)
    lines: list[str] = []
    again = run(kind, broken, lines.append)
    assert any(line.startswith("going on from step 1 of ") for line in lines)
    assert [r["step"] for r in again.history] == [r["step"] for r in whole.history] == [1, 2]
    assert again.best == whole.best < math.inf
    first, second = (load_file(tmp_path / n / loop.STATE_FILE) for n in ("whole", "broken"))
    assert first.keys() == second.keys()
    assert any(name.startswith("optimiser/") for name in first)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0, rtol=0, msg=name)
    name = {"vc": "generator", "convert": "generator", "perturb": "perturber"}.get(kind, kind)
    assert checkpoint.load(name, tmp_path / "whole").about["step"] in {1, 2}


def test_a_vocoder_is_chosen_by_its_sound_too(
    make: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = VocoderTask(make("vocoder", tmp_path, dnsmos_weight=0.5), quiet)  # type: ignore[arg-type]
    monkeypatch.setattr(vocoding, "dnsmos", lambda _: {"overall": 3.0})
    measures = task.evaluate()
    distances = measures["spectral"] + 2 * measures["mel"]
    assert measures["dev"] == pytest.approx(distances - 0.5 * 3.0)
    monkeypatch.setattr(vocoding, "dnsmos", lambda _: None)
    with pytest.raises(UsageError, match="pip install speechmos"):
        task.evaluate()


def test_reconstruction_improves(make: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = make("vc", tmp_path, steps=60, evaluate_every=20, learning_rate=1e-2, ema=0.8)
    history = run("vc", config).history
    assert history[-1]["dev"] < 0.7 * history[0]["dev"]
    assert checkpoint.load("generator", tmp_path).about["dev"] == min(r["dev"] for r in history)


def test_nan_stops_the_run_and_spares_the_weights(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = make("vc", tmp_path)
    task = VcTask(config, quiet)  # type: ignore[arg-type]

    def spoil(line: str) -> None:
        if line.startswith("step 1: on dev"):
            task.generator.encoder.first.weight.data[0] = math.nan

    with pytest.raises(SpeakerguardError, match=r"the loss became nan at step 1 .*learning_rate"):
        Loop(config, task, spoil).run()
    kept = checkpoint.load("generator", tmp_path).network
    assert all(torch.isfinite(t).all() for t in kept.state_dict().values())
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / loop.STATE_FILE).values())


def test_another_configuration_in_the_same_folder_is_refused(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run("vc", make("vc", tmp_path, steps=1))
    with pytest.raises(CheckpointError, match="belongs to a run with another configuration"):
        run("vc", make("vc", tmp_path, steps=2))
    run("vc", make("vc", tmp_path, steps=1, threads=2))


def test_a_run_starts_from_weights_of_the_same_shape_only(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run("vc", make("vc", tmp_path / "plain"))
    plain = checkpoint.load("generator", tmp_path / "plain").network
    task = ConvertTask(make("convert", tmp_path / "next", init=str(tmp_path / "plain")), quiet)  # type: ignore[arg-type]
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(task.network.state_dict()[name], tensor)
    wider = {"model": {"width": 16, "blocks": 2}, "init": str(tmp_path / "plain")}
    with pytest.raises(CheckpointError, match=r"width=8.*asks for.*width=16"):
        ConvertTask(make("convert", tmp_path / "third", **wider), quiet)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def guard(tiny_model: Path) -> GuardLoss:
    """The guard of the tests, as part of a loss."""
    return GuardLoss(tiny_model)


@pytest.mark.parametrize("through", ["waveform", "mel"])
def test_the_guards_gradient_is_that_of_its_score(
    guard: GuardLoss, corpus: Path, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite differences along the gradient itself, through front end and network."""
    clip = torch.from_numpy(read(sorted((corpus / "dev").rglob("*.opus"))[0])[: 320 * 60])[None]
    voice = torch.nn.functional.normalize(torch.randn(1, 192), dim=1)
    value, vocoder = clip, GriffinLim(iterations=4)
    if through == "mel":
        value = MelSpectrogram()(from_guard(clip))
        phases = vocoder._phases(vocoder.magnitudes(value))
        monkeypatch.setattr(vocoder, "_phases", lambda _: phases)
    value.requires_grad_()

    def score(x: torch.Tensor) -> torch.Tensor:
        if through == "waveform":
            return (guard.embed(x, SAMPLE_RATE) * voice).sum()
        return (guard.embed(vocoder(x), STANDARD.sample_rate) * voice).sum()

    score(value).backward()
    assert value.grad is not None
    norm = value.grad.norm()
    assert norm > 1e-4
    assert all(parameter.grad is None for parameter in guard.encoder.parameters())
    step = 1e-3 / norm  # moves the score by about a thousandth, far above rounding
    with torch.no_grad():
        ahead, behind = (score(value + sign * step * value.grad / norm) for sign in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx(norm.item(), rel=0.05)


def test_the_guards_loss_is_zero_where_all_pass(guard: GuardLoss) -> None:
    limit = guard.threshold
    assert guard(torch.tensor([limit + 0.2, limit + 0.1]), 0.1) == 0
    assert guard(torch.tensor([limit]), 0.1).item() == pytest.approx(0.1, abs=1e-6)
    assert not guard.train().encoder.training


def test_thresholds_of_other_weights_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "g")
    text = (tmp_path / "g" / "calibration.json").read_text()
    (tmp_path / "g" / "calibration.json").write_text(
        text.replace(GuardLoss(tiny_model).fingerprint, "0123456789abcdef")
    )
    with pytest.raises(CheckpointError, match="calibrate again"):
        GuardLoss(tmp_path / "g")


def test_a_generator_is_pulled_over_the_threshold(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Learning one batch by heart: the guard's score of conversions rises."""
    loss = {"guard": 10, "reconstruction": 0.1, "content": 0, "gan": 0}
    config = make("convert", tmp_path, loss=loss, learning_rate=1e-2)
    task = ConvertTask(config, quiet)  # type: ignore[arg-type]
    losses = [task.learn(0)["guard"] for _ in range(30)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_perturber_must_know_the_guards_embeddings(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = make("perturb", tmp_path, perturber={"width": 8, "blocks": 2, "embedding": 64})
    with pytest.raises(ConfigError, match=r"embedding is 64, but .* of 192 values"):
        PerturbTask(config, quiet)  # type: ignore[arg-type]


def test_crops_are_of_the_asked_length_and_speakers(
    make: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = make("vc", tmp_path)
    crops = Crops(config, quiet)
    count = crop_samples(config.frames)
    assert MelSpectrogram()(from_guard(torch.zeros(1, count))).shape[2] >= config.frames
    first, second = crops.draw_targets(3, crops.rng(5))
    assert first.shape == second.shape == (3, count)
    assert not torch.equal(first, second)
    assert torch.equal(crops.draw(2, crops.rng(1)), crops.draw(2, crops.rng(1)))
    assert swap_halves(torch.arange(6.0).view(1, 1, 6)).flatten().tolist() == [3, 4, 5, 0, 1, 2]


def test_lists_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\tc\n\nd\te\tf\n")
    pairs = read_pairs(path)
    assert [pair.enrol for pair in pairs] == ["c", "f"]
    assert spread(pairs * 5, 2) == [pairs[0], (pairs * 5)[5]]
    path.write_text("a\tb\n")
    with pytest.raises(UsageError, match=r"pairs.tsv, line 1: 2 columns"):
        read_pairs(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "none.tsv")


@pytest.mark.parametrize("name", sorted(p.name for p in Path("configs").glob("advgan-*.yaml")))
def test_the_shipped_configurations_are_valid(name: str) -> None:
    kind = name.removeprefix("advgan-").removesuffix(".yaml").split("-")[0]
    schema = {"vc": VcConfig, "vocoder": VocoderRunConfig, "discriminator": DetectorConfig}
    load_as(Path("configs") / name, schema.get(kind, AdversarialConfig))


def test_a_wrong_key_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("configs/advgan-vc-half.yaml").read_text().replace("batch:", "bacth:")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown key 'bacth'; did you mean 'batch'"):
        load_as(tmp_path / "c.yaml", VcConfig)
    with pytest.raises(SystemExit) as caught:
        main(["vc", "--config", str(tmp_path / "c.yaml")])
    assert caught.value.code == 2
    assert "did you mean 'batch'" in capsys.readouterr().err


def test_the_detector_learns_from_what_was_generated(
    make: Callable[..., RunConfig], corpus: Path, tmp_path: Path
) -> None:
    file = sorted((corpus / "dev").rglob("*.opus"))[0]
    folder = tmp_path / "made"
    folder.mkdir()
    shutil.copy(file, folder / "000000.opus")
    row = {"id": "000000", "output": "000000.opus", "accepted": True}
    append(folder, row)
    write_manifest(folder, [row], {})
    config = make(
        "discriminator", tmp_path / "run", spoofs=[folder], dev_spoofs=[folder], copies=0.5, batch=4
    )
    task = DetectorTask(config, quiet)  # type: ignore[arg-type]
    assert len(task.dev_made) == 1
    Loop(config, task, quiet).run()
    detector = Detector(str(tmp_path / "run"))
    clip = read(file)
    quieter = detector.llr((0.3 * clip, SAMPLE_RATE))
    assert quieter == pytest.approx(detector.llr(file), abs=0.2)
    silence = np.zeros(SAMPLE_RATE, np.float32)
    padded = detector.llr((np.concatenate([silence, clip, silence]), SAMPLE_RATE))
    assert padded == pytest.approx(detector.llr(file), abs=0.5)
    assert {"scale", "offset"} <= checkpoint.load("discriminator", tmp_path / "run").about.keys()
    with pytest.raises(UsageError, match="advgan-generate -o"):
        DetectorTask(make("discriminator", tmp_path / "x", spoofs=[tmp_path]), quiet)  # type: ignore[arg-type]


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


def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    network = Generator(GeneratorConfig(width=8, blocks=1))
    fingerprint = checkpoint.save("generator", network, path)

    def full(_: object, part: Path, **__: object) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UsageError, match=r"No space left on device.*Make room"):
        checkpoint.save("generator", Generator(GeneratorConfig(width=8, blocks=1)), path)
    assert checkpoint.load("generator", path).fingerprint == fingerprint
    assert list(tmp_path.iterdir()) == [path]


def test_a_vocoder_of_another_convention_is_refused(tmp_path: Path) -> None:
    other = MelConvention(f_max=8_000)
    network = NeuralVocoder(VocoderConfig(width=4, hidden=4, blocks=1), other)
    checkpoint.save("vocoder", network, tmp_path / "model.safetensors", other)
    with pytest.raises(CheckpointError, match=r"(?s)another mel convention.*f_max=8000.*11025"):
        checkpoint.load_vocoder(tmp_path)
    assert checkpoint.load_vocoder("griffin-lim").name == "griffin-lim"
