"""Attacks to learn from: by gradient, and from folders of conversions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from support.training import buzz, config, make_corpus, quiet, take_buzzes_for_speech

from advgan import manifest
from speakerguard.errors import UsageError
from speakerguard.network import checkpoint
from speakerguard.sound.audio import SAMPLE_RATE, read
from speakerguard.training import batches, hardening
from speakerguard.training.batches import Batch, BatchSampler
from speakerguard.training.data import SpeechSet
from speakerguard.training.guard_task import GuardTask
from speakerguard.training.hardening import draw_victims, perturb, read_conversions
from speakerguard.training.losses import impersonation


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _buzzes_are_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    take_buzzes_for_speech(monkeypatch)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two conversions, as advgan-generate lists them, and one that failed."""
    folder = tmp_path / "made"
    folder.mkdir()
    rows = []
    for number, (source, target) in enumerate(((0, 1), (2, 3))):
        name = f"{number:06d}"
        soundfile.write(folder / f"{name}.wav", buzz(source, 50, 1.5), SAMPLE_RATE)
        rows.append(
            {"id": name, "source": f"s{source}/0.wav", "target": f"s{target}/1.wav",
             "output": f"{name}.wav", "after": 0.5, "accepted": True}
        )  # fmt: skip
    rows.append({"id": "000002", "source": "s0/0.wav", "target": "s1/0.wav", "error": "silent"})
    manifest.write_manifest(folder, rows, {})
    return folder


@pytest.fixture(scope="module")
def clips(real_speech: dict[str, list[Path]]) -> torch.Tensor:
    """A second of each of four real speakers, at different levels: (4, 16000)."""
    middles = [read(files[0])[8_000:24_000] for files in real_speech.values()]
    levels = torch.tensor([[1.0], [0.7], [0.4], [0.2]])
    clips: torch.Tensor = torch.from_numpy(np.stack(middles)) * levels
    return clips


@pytest.mark.parametrize(("steps", "gain"), [(1, 0.09), (4, 0.1)])
def test_a_gradient_attack_nears_its_goal_within_epsilon(
    clips: torch.Tensor, steps: int, gain: float
) -> None:
    encoder, _ = checkpoint.load(checkpoint.resolve("guard"))
    with torch.no_grad():
        goals = encoder(clips.roll(1, 0))
        before = (encoder(clips) * goals).sum(dim=1)
    torch.manual_seed(1)
    attacked = perturb(encoder, clips, goals, epsilon=0.01, steps=steps)
    peak = clips.abs().amax(dim=1, keepdim=True)
    change = (attacked - clips).abs().amax(dim=1, keepdim=True) / peak
    assert (change <= 0.01 * (1 + 1e-4)).all()  # whatever the level
    assert (change > 0.005).all()
    assert attacked.abs().max() <= 1
    with torch.no_grad():
        after = (encoder(attacked) * goals).sum(dim=1)
        noise = encoder(clips + 0.01 * peak * (2 * torch.rand_like(clips) - 1))
    assert (after - before).mean() > 0.1
    assert after.mean() > (noise * goals).sum(dim=1).mean() + gain
    assert all(weight.grad is None for weight in encoder.parameters())


def test_victims_imitate_other_voices_that_are_left_alone() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, -1, -1])
    for _ in range(20):
        rows, goals = draw_victims(labels, 0.5)
        assert len(rows) == 3
        assert len(set(rows.tolist())) == 3
        assert not set(rows.tolist()) & set(goals.tolist())
        assert (labels[rows] != labels[goals]).all()
        assert (labels[torch.cat([rows, goals])] >= 0).all()
    assert len(draw_victims(torch.tensor([3, 3, 3, 3]), 0.5)[0]) == 0
    assert len(draw_victims(labels, 0.0)[0]) == 0


def test_the_loss_is_what_lies_above_the_limit() -> None:
    angle = torch.tensor([0.2, 1.0, 1.5])
    attacks = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    targets = torch.tensor([[1.0, 0.0]]).repeat(3, 1).requires_grad_()
    loss = impersonation(attacks, targets, 0.5)
    expected = sum(max(0.0, float(np.cos(a)) - 0.5) for a in angle.tolist()) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert targets.grad is None
    assert attacks.grad is not None
    assert attacks.grad[0, 0] > 0
    assert not attacks.grad[2].any()
    below = impersonation(attacks[2:], targets[2:], 0.5)
    assert below.item() == 0
    assert impersonation(attacks[:0], targets[:0], 0.5).item() == 0


def test_the_manifest_is_read_as_it_is_written(made: Path) -> None:
    assert set(hardening.NEEDED) <= set(manifest.COLUMNS)
    assert hardening.MANIFEST == manifest.TSV
    found = read_conversions(made)
    assert [(c.output, c.source, c.target, c.line) for c in found] == [
        ("000000.wav", "s0/0.wav", "s1/1.wav", 2),
        ("000001.wav", "s2/0.wav", "s3/1.wav", 3),
    ]


def test_a_name_may_hold_what_ends_lines_elsewhere(made: Path) -> None:
    path = made / "manifest.tsv"
    text = path.read_text(encoding="utf-8").replace("s0/0.wav", "s0/\u2028\x850.wav")
    path.write_text(text, encoding="utf-8")
    assert read_conversions(made)[0].source == "s0/\u2028\x850.wav"
    assert manifest.read_manifest(made) == [made / "000000.wav", made / "000001.wav"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("target\t", "targett\t", r"no column 'target'; it needs .* has id, .*Is 'targett' meant?"),
        ("output\t", "", r"manifest.tsv: no column 'output'; it needs source, target, output"),
        ("000001.wav", "gone.wav", r"line 3: gone.wav is not in .*advgan-generate"),
        ("\t000001.wav\t", "\t", r"line 3: \d+ columns where the first line has \d+"),
    ],
)
def test_a_wrong_manifest_is_refused(made: Path, old: str, new: str, message: str) -> None:
    path = made / "manifest.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_conversions(made)


def test_a_folder_without_conversions_is_refused(tmp_path: Path, made: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest.tsv: no such file. Make it with `advgan-gen"):
        read_conversions(tmp_path)
    header = (made / "manifest.tsv").read_text(encoding="utf-8").splitlines()[0]
    (made / "manifest.tsv").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lists no conversion"):
        read_conversions(made)


def test_conversions_come_with_their_targets_and_sources(
    corpus: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def teach(speech: SpeechSet, speed: float, *_: object) -> npt.NDArray[np.float16]:
        """A corner of a cube for each speaker and speed."""
        rows = np.zeros((len(speech), 192), np.float16)
        for row, speaker in zip(rows, speech.speakers, strict=True):
            row[2 * int(str(speaker)[1:]) + (speed == 1)] = 1
        return rows

    monkeypatch.setattr(batches, "teach", teach)
    attacks = {"made": [made], "conversions": 5, "keep_source": 0.5}
    run = config(
        corpus, tmp_path / "run", attacks=attacks, augmentation=0, steps=40,
        model={"embedding": 192}, loss={"distil_cosine": 1}, data={"speeds": [0.9, 1.0]},
    )  # fmt: skip
    task = GuardTask(run, quiet)
    batch = task.batches[3]
    assert len(batch.labels) == 8
    assert len(batch.waveforms) == 8 + 2 * 5
    assert set(batch.sources.argmax(dim=1).tolist()) <= {1, 5}  # at speed 1
    losses = task.learn_from(batch, 0)
    assert losses.keys() == {"loss", "softmax", "distil_cosine", "conversions", "keep_source"}
    first, last = [], []
    for step in range(30):
        (first if step < 5 else last).append(task.learn_from(batch, step)["conversions"])
    assert np.mean(last[-5:]) < 0.6 * np.mean(first)


def test_conversions_of_another_corpus_are_refused(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "else/s9").mkdir(parents=True)
    soundfile.write(tmp_path / "else/s9/0.wav", buzz(2, 3), SAMPLE_RATE)
    attacks = {"made": [made], "corpus": tmp_path / "else"}
    with pytest.raises(UsageError, match=r"line 2: s0/0.wav is not in .*else. Set attacks.corpus"):
        BatchSampler(config(corpus, tmp_path / "run", attacks=attacks), report=quiet)
    attacks = {"made": [made], "corpus": corpus / "train"}
    data = {"train": tmp_path / "else"}
    sampler = BatchSampler(config(corpus, tmp_path / "run", attacks=attacks, data=data))
    assert len(sampler.imitations) == 2
    assert sampler.voices == 1  # the corpus of the conversions adds none


def test_adversarial_training_makes_attacks_fail(
    corpus: Path, clips: torch.Tensor, tmp_path: Path
) -> None:
    """A few steps on what was attacked leave the guard less moved by the same attack."""
    attacks = {"share": 0.5, "epsilon": 0.01, "steps": 2, "limit": -0.5}
    run = config(
        corpus, tmp_path, attacks=attacks, init="guard", model={"width": 32, "tdnn_channels": 512,
        "embedding": 192}, steps=40, ramp=0.025, learning_rate=5e-4, loss={"softmax": 0.1},
    )  # fmt: skip
    task = GuardTask(run, quiet)
    labels = torch.arange(4)
    batch = Batch(clips, labels, torch.zeros(4, 0), torch.zeros(0, 0))
    excess = []
    for step in range(16):
        torch.manual_seed(0)  # the same crops attacked in the same directions
        again = Batch(batch.waveforms.clone(), *batch[1:])
        excess.append(task.learn_from(again, step)["gradient_attacks"])
    assert excess[1] > 0.4  # at step 0 the bound has yet to grow
    assert np.mean(excess[-3:]) < 0.6 * excess[1]
