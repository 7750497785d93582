"""Training runs of every part: kills, NaN, configurations."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.attacking import TASKS, Make, quiet, run

from advgan.networks import checkpoint
from advgan.train import main
from advgan.training import vocoder_task as vocoding
from advgan.training.adversarial_task import ConvertTask
from advgan.training.config import AdversarialConfig, DetectorConfig, VcConfig, VocoderRunConfig
from advgan.training.vc_task import VcTask
from advgan.training.vocoder_task import VocoderTask
from speakerguard.errors import CheckpointError, ConfigError, SpeakerguardError, UsageError
from speakerguard.network.checkpoint import load
from speakerguard.settings import load_as
from speakerguard.training import loop
from speakerguard.training.loop import Loop


@pytest.mark.parametrize("kind", TASKS)
def test_a_killed_run_ends_where_an_unbroken_one_does(
    make: Make, tmp_path: Path, tiny_model: Path, kind: str
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
    about = checkpoint.load(name, tmp_path / "whole").about
    assert about["step"] in {1, 2}
    if kind in {"convert", "perturb"}:
        assert about["guard"] == load(tiny_model)[1]


def test_ctrl_c_finishes_the_step_and_keeps_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("vc", tmp_path, steps=4, evaluate_every=4)
    whole = Loop._average

    def interrupted(self: Loop) -> None:
        whole(self)
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "_average", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run("vc", config)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    lines: list[str] = []
    run("vc", config, lines.append)
    assert any(line.startswith("going on from step 2 of ") for line in lines)


def test_measures_of_dev_stand_beside_the_losses_of_their_name(make: Make, tmp_path: Path) -> None:
    made = run("vc", make("vc", tmp_path))
    made._record([{"guard": 3.0}, {"guard": 5.0}], guard=1.0, dev=2.0)
    assert made.history[-1].items() >= {"guard": 4.0, "dev guard": 1.0, "dev": 2.0}.items()


def test_a_vocoder_is_chosen_by_its_sound_too(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = VocoderTask(make("vocoder", tmp_path, dnsmos_weight=0.5), quiet)  # type: ignore[arg-type]
    monkeypatch.setattr(vocoding, "dnsmos", lambda _: {"overall": 3.0})
    measures = task.evaluate()
    distances = measures["spectral"] + 2 * measures["mel"]
    assert measures["dev"] == pytest.approx(distances - 0.5 * 3.0)
    monkeypatch.setattr(vocoding, "dnsmos", lambda _: None)
    with pytest.raises(UsageError, match="pip install speechmos"):
        task.evaluate()


def test_reconstruction_improves(make: Make, tmp_path: Path) -> None:
    config = make("vc", tmp_path, steps=60, evaluate_every=20, learning_rate=1e-2, ema=0.8)
    history = run("vc", config).history
    assert history[-1]["dev"] < 0.7 * history[0]["dev"]
    assert checkpoint.load("generator", tmp_path).about["dev"] == min(
        r["dev"] for r in history if "dev" in r
    )


def test_a_vocoder_learns_magnitudes_alone(make: Make, tmp_path: Path) -> None:
    sounds = {"spectral": 0, "mel_weight": 0, "adversarial": 0}
    short = {"steps": 40, "evaluate_every": 20, "learning_rate": 1e-2, "ema": 0.8}
    history = run("vocoder", make("vocoder", tmp_path, magnitudes=10, **sounds, **short)).history
    assert history[-1]["magnitudes"] < 0.8 * history[0]["magnitudes"]
    with pytest.raises(ValueError, match="every distance has weight 0"):
        make("vocoder", tmp_path, **sounds)


def test_nan_stops_the_run_and_spares_the_weights(make: Make, tmp_path: Path) -> None:
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


def test_another_configuration_in_the_same_folder_is_refused(make: Make, tmp_path: Path) -> None:
    run("vc", make("vc", tmp_path, steps=1))
    with pytest.raises(CheckpointError, match="belongs to a run with another configuration"):
        run("vc", make("vc", tmp_path, steps=2))
    run("vc", make("vc", tmp_path, steps=1, threads=2))


def test_a_run_starts_from_weights_of_the_same_shape_only(make: Make, tmp_path: Path) -> None:
    run("vc", make("vc", tmp_path / "plain"))
    plain = checkpoint.load("generator", tmp_path / "plain").network
    task = ConvertTask(make("convert", tmp_path / "next", init=str(tmp_path / "plain")), quiet)  # type: ignore[arg-type]
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(task.network.state_dict()[name], tensor)
    # and to be told nothing is where it starts from
    mel, told = torch.randn(1, 80, 40), torch.randn(1, 192)
    network = task.network.eval()
    torch.testing.assert_close(network(mel, mel, told), plain.eval()(mel, mel))
    wider = {"model": {"width": 16, "blocks": 2}, "init": str(tmp_path / "plain")}
    with pytest.raises(CheckpointError, match=r"width=8.*asks for.*width=16"):
        ConvertTask(make("convert", tmp_path / "third", **wider), quiet)  # type: ignore[arg-type]


def test_mixed_targets_lie_between_two_voices(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share in (0, 1):
        config = make("convert", tmp_path / str(share), target_mixing=share, batch=4)
        task = ConvertTask(config, quiet)  # type: ignore[arg-type]
        monkeypatch.setattr(task, "_embed", lambda waveforms, _: waveforms)
        voices = torch.eye(4)
        known, judged = task._mixed(np.random.default_rng(0), voices, voices)
        torch.testing.assert_close(known.norm(dim=1), torch.ones(4))
        assert torch.equal(known, judged)  # both are mixed alike
        between = (known > 0.2).float().sum(dim=1)
        assert between.tolist() == [1 + share] * 4
    task.config = config.model_copy(update={"target_noise": 0.75})
    known, judged = task._mixed(np.random.default_rng(0), *[torch.eye(1_000)[:4]] * 2)
    assert torch.equal(known, judged)
    assert known[:, :4].norm(dim=1).tolist() == pytest.approx([0.7] * 4, abs=0.08)


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
