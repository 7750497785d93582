"""Training runs of a few steps on voices made of buzzes."""

import itertools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import config, make_corpus, quiet, take_buzzes_for_speech, whole

from speakerguard.errors import CheckpointError, ConfigError, SpeakerguardError
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder
from speakerguard.train import loop
from speakerguard.training import batches, data, devset, guard_task
from speakerguard.training import loop as loops
from speakerguard.training.data import SpeechSet
from speakerguard.training.guard_task import GuardTask
from speakerguard.training.loop import Loop


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _buzzes_are_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    take_buzzes_for_speech(monkeypatch)
    monkeypatch.setattr(loops, "draw", lambda *_: None)  # slow; has a test of its own


def after(step: int, act: Callable[[], None]) -> Callable[[str], None]:
    """A report that acts when ``step`` has been evaluated and saved."""

    def report(line: str) -> None:
        if line.startswith(f"step {step}: EER"):
            act()

    return report


def encoder_of(trainer: Loop) -> SpeakerEncoder:
    encoder = trainer.task.modules["encoder"]
    assert isinstance(encoder, SpeakerEncoder)
    return encoder


def kill() -> None:
    raise KeyboardInterrupt


def test_a_short_run_learns(corpus: Path, tmp_path: Path) -> None:
    run = config(corpus, tmp_path / "run", evaluate_every=8, steps=40, ramp=1)
    lines: list[str] = []
    trainer = loop(run, lines.append)
    best = trainer.run()
    losses = [record["loss"] for record in trainer.history]
    assert [record["step"] for record in trainer.history] == [8, 16, 24, 32, 40]
    assert losses[-1] < 0.8 * losses[0]
    assert best == min(record["eer"] for record in trainer.history)
    encoder, _ = checkpoint.load(tmp_path / "run")
    dev = devset.DevSet(run.data.dev, run.data.dev_trials)
    assert dev.eer(encoder) == pytest.approx(best, abs=0.1)  # half precision moves a score or two
    assert sum("EER on dev" in line for line in lines) == 5
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "model.safetensors",
        "state.safetensors",
        "history.jsonl",
    }


@pytest.mark.parametrize(("choose_by", "kept"), [("pooled", 1), ("last", 4)])
def test_the_last_weights_are_kept_where_asked_for(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose_by: str, kept: int
) -> None:
    run = config(corpus, tmp_path / "run", evaluate_every=2, steps=8, choose_by=choose_by)
    trainer, saved = loop(run, quiet), []
    rates = iter([0.1, 0.4, 0.3, 0.2])
    monkeypatch.setattr(trainer.task, "evaluate", lambda: {"eer": next(rates)})
    monkeypatch.setattr(trainer.task, "save", lambda about: saved.append(about["step"]))
    drawn = []
    monkeypatch.setattr(loops, "draw", lambda _history, _out, shares: drawn.append(set(shares)))
    trainer.run()
    assert saved == [2, 4, 6, 8][:kept]
    assert drawn == [{"eer"}] * 4  # in per cent


@pytest.mark.parametrize("name", ["triplet", "distil_cosine", "distil_similarity"])
def test_every_loss_can_learn_one_batch_by_heart(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def teach(speech: SpeechSet, *_: object) -> npt.NDArray[np.float16]:
        rows = [np.random.default_rng(int(str(s)[1:])).normal(size=192) for s in speech.speakers]
        return np.array(rows, np.float16)

    monkeypatch.setattr(batches, "teach", teach)
    loss = {"softmax": 0, "triplet_margin": 0.3, name: 1}
    run = config(corpus, tmp_path, loss=loss, model={"embedding": 192}, steps=40)
    task = GuardTask(run, quiet)
    batch = task.batches[0]
    losses = [task.learn_from(batch, step)["loss"] for step in range(30)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


MORE = [
    {"optimiser": "adamw"},
    {"optimiser": "muon"},
    {"attacks": {"share": 0.5, "epsilon": 0.02, "steps": 2}, "choose_by": "mean"},
]


@pytest.mark.parametrize("more", MORE, ids=["adamw", "muon", "attacked"])
def test_a_killed_run_ends_where_an_unbroken_one_does(
    corpus: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    loop(config(corpus, tmp_path / "whole", **more), quiet).run()
    broken = config(corpus, tmp_path / "broken", **more)
    with pytest.raises(KeyboardInterrupt):
        loop(broken, after(10, kill)).run()
    torch.manual_seed(99)
    lines: list[str] = []
    again = loop(broken, lines.append)
    assert again.step == 10
    again.run()
    assert lines[0].startswith("going on from step 10 of ")
    first, second = (load_file(tmp_path / n / "state.safetensors") for n in ("whole", "broken"))
    assert first.keys() == second.keys()
    assert sum(name.startswith("optimiser/") for name in first) > 100
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0, rtol=0, msg=name)
    prints = {checkpoint.load(tmp_path / name)[1] for name in ("whole", "broken")}
    assert len(prints) == 1


def test_batches_still_come_after_ctrl_c(corpus: Path, tmp_path: Path) -> None:
    """A terminal sends it to the process that makes them as well."""
    task = GuardTask(config(corpus, tmp_path / "run", steps=24, workers=1), quiet)
    task.begin(0)
    task.learn(0)
    (maker,) = multiprocessing.active_children()
    assert maker.pid is not None
    os.kill(maker.pid, signal.SIGINT)
    for step in range(1, 24):  # more than are made ahead
        task.learn(step)


def test_a_finished_run_has_nothing_more_to_do(corpus: Path, tmp_path: Path) -> None:
    run = config(corpus, tmp_path, steps=2)
    best = loop(run, quiet).run()
    before = (tmp_path / "state.safetensors").read_bytes()
    assert loop(run, quiet).run() == best
    assert (tmp_path / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_the_run_and_spares_the_weights(corpus: Path, tmp_path: Path, what: str) -> None:
    def spoil() -> None:
        weight = encoder.trunk.stages[0].conv.weight
        if what == "loss":
            weight.data[0] = math.nan
        else:
            weight.register_hook(lambda gradient: gradient * math.nan)

    trainer = loop(config(corpus, tmp_path), after(10, spoil))
    encoder = encoder_of(trainer)
    with pytest.raises(SpeakerguardError) as caught:
        trainer.run()
    message = str(caught.value)
    assert f"the {what} became nan at step 10 of {tmp_path}" in message
    assert str(tmp_path / "model.safetensors") in message
    assert "learning_rate (now 0.003)" in message
    kept, _ = checkpoint.load(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in kept.state_dict().values())
    state = load_file(tmp_path / "state.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    if what == "gradient":
        assert all(torch.isfinite(p).all() for p in encoder.parameters())


def test_nan_before_any_weights_promises_none(corpus: Path, tmp_path: Path) -> None:
    trainer = loop(config(corpus, tmp_path), quiet)
    encoder_of(trainer).trunk.stages[0].conv.weight.data[0] = math.nan
    with pytest.raises(SpeakerguardError) as caught:
        trainer.run()
    assert "at step 0" in str(caught.value)
    assert "best weights" not in str(caught.value)


def test_another_configuration_in_the_same_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    loop(config(corpus, tmp_path, steps=1), quiet).run()
    with pytest.raises(SpeakerguardError, match="belongs to a run with another configuration"):
        loop(config(corpus, tmp_path, steps=2), quiet)
    loop(config(corpus, tmp_path, steps=1, threads=2, workers=1), quiet)


def test_a_state_from_before_newer_keys_goes_on(corpus: Path, tmp_path: Path) -> None:
    """As written when some keys of the configuration had not been thought of."""
    run = config(corpus, tmp_path, steps=20)
    with pytest.raises(KeyboardInterrupt):
        loop(run, after(10, kill)).run()
    path = tmp_path / "state.safetensors"
    metadata, tensors = checkpoint.read_tensors(path, "pt", "")
    written = json.loads(metadata["config"])
    for key in ("optimiser", "attacks", "choose_by"):
        del written[key]
    save_file(tensors, path, metadata=metadata | {"config": json.dumps(written)})
    assert loop(run, quiet).step == 10


def test_a_state_on_another_basis_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(corpus, tmp_path, steps=1)
    monkeypatch.setattr(GuardTask, "basis", "against guard a")
    loop(run, quiet).run()
    loop(run, quiet)
    monkeypatch.setattr(GuardTask, "basis", "against guard b")
    with pytest.raises(CheckpointError, match="a run against guard a; this one is against guard b"):
        loop(run, quiet)


def test_a_state_of_another_version_is_refused(corpus: Path, tmp_path: Path) -> None:
    run = config(corpus, tmp_path, steps=1)
    loop(run, quiet).run()
    path = tmp_path / "state.safetensors"
    metadata, tensors = checkpoint.read_tensors(path, "pt", "")
    older = {name.replace("/", "."): tensor for name, tensor in tensors.items()}
    save_file(older, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="another version"):
        loop(run, quiet)


def test_a_damaged_state_is_refused(corpus: Path, tmp_path: Path) -> None:
    run = config(corpus, tmp_path, steps=1)
    loop(run, quiet).run()
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"state.safetensors: not a whole"):
        loop(run, quiet)


def test_other_training_speakers_are_refused(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    for speaker in range(2):
        (folder / f"s{speaker}").mkdir(parents=True)
        for path in (corpus / "train" / f"s{speaker}").iterdir():
            (folder / f"s{speaker}" / path.name).write_bytes(path.read_bytes())
    run = config(corpus, tmp_path / "run", data={"train": folder}, steps=1)
    loop(run, quiet).run()
    (folder / "s1").rename(folder / "s2")
    loop(run, quiet)  # as many voices as before
    (folder / "s3").mkdir()
    (folder / "s2" / "0.wav").rename(folder / "s3" / "0.wav")
    with pytest.raises(CheckpointError, match=r"trained on 2 voices, .*train now holds 3"):
        loop(run, quiet)


def test_a_run_can_start_from_another(corpus: Path, tmp_path: Path) -> None:
    loop(config(corpus, tmp_path / "first", steps=3), quiet).run()
    first, _ = checkpoint.load(tmp_path / "first")
    init = str(tmp_path / "first")
    second = GuardTask(config(corpus, tmp_path / "second", init=init), quiet)
    for name, tensor in checkpoint._state(first).items():
        torch.testing.assert_close(second.encoder.state_dict()[name], tensor)
    anew = GuardTask(config(corpus, tmp_path / "anew", init=init, new_head=True), quiet).encoder
    trunk, head = "trunk.stages.0.conv.weight", "head.affine.weight"
    torch.testing.assert_close(anew.state_dict()[trunk], first.state_dict()[trunk])
    assert not torch.equal(anew.state_dict()[head], first.state_dict()[head])
    wider = config(corpus, tmp_path / "third", init=init, model={"width": 8})
    with pytest.raises(CheckpointError, match=r"first: its network is .*width=4.* asks for .*=8"):
        loop(wider, quiet)


def test_a_new_head_on_a_frozen_then_free_trunk(corpus: Path, tmp_path: Path) -> None:
    loop(config(corpus, tmp_path / "first", steps=3), quiet).run()
    first, _ = checkpoint.load(tmp_path / "first")
    init = {"init": str(tmp_path / "first"), "model": {"head": "mean"}, "frozen": 2}
    run = GuardTask(config(corpus, tmp_path / "second", **init), quiet)
    kept = {name: tensor.clone() for name, tensor in first.trunk.state_dict().items()}
    heads = []
    for step in range(3):
        run.learn_from(run.batches[step], step)
        heads.append(run.encoder.head.state_dict()["affine.weight"].clone())
        same = [torch.equal(t, kept[n]) for n, t in run.encoder.trunk.state_dict().items()]
        assert all(same) if step < 2 else not any(same)
    assert not torch.equal(heads[0], heads[1])


def test_frozen_without_init_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give an init as well"):
        loop(config(corpus, tmp_path, frozen=5), quiet)


def test_curves_and_tensorboard_are_written(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.undo()
    take_buzzes_for_speech(monkeypatch)
    loop(config(corpus, tmp_path, steps=2, evaluate_every=1), quiet).run()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_without_tensorboard_there_are_curves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    loops.draw([{"step": 1.0, "loss": 2.0}], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_learning_rate_rises_then_falls_to_a_hundredth(corpus: Path, tmp_path: Path) -> None:
    trainer = loop(config(corpus, tmp_path, steps=100, warmup=10), quiet)
    rates = []
    for trainer.step in range(101):
        rates.append(trainer.rate_factor())
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[100] == pytest.approx(0.01)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_masks_hide_one_band_and_one_stretch(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = torch.ones(64, 90, 64)
    guard_task.mask_features(features, config(corpus, tmp_path), 1.0)
    hidden = features == 0
    bands, frames = hidden.all(dim=1), hidden.all(dim=2)
    assert torch.equal(hidden, bands[:, None, :] | frames[:, :, None])
    assert 4 <= bands.sum(dim=1).max() <= 8
    assert 12 <= frames.sum(dim=1).max() <= 20
    for rows in (bands, frames):
        edges = torch.diff(rows.int(), dim=1).abs().sum(dim=1)
        assert edges.max() <= 2  # one stretch


def two_processes() -> None:
    """Run by torchrun: train, then store what this rank ended with."""
    corpus, out = Path(sys.argv[1]), Path(sys.argv[2])
    data.load_speech = devset.load_speech = whole
    loops.draw = lambda *_: None
    trainer = loop(config(corpus, out, steps=4, learning_rate=0.01), print)
    trainer.run()
    tensors = {
        f"{module}.{name}": parameter.detach().contiguous()
        for module in ("encoder", "softmax")
        for name, parameter in trainer.task.modules[module].named_parameters()
    }
    save_file(tensors, out / f"rank{os.environ['RANK']}.safetensors")


def test_two_processes_hold_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(Path(__file__)), str(corpus), str(tmp_path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.count("step 4: EER") == 1
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert any("trunk" in name for name in first)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0, rtol=0, msg=name)
    checkpoint.load(tmp_path)


if __name__ == "__main__":
    two_processes()
