"""The guard in the attacker's loss."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.attacking import Make, quiet

from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard
from advgan.networks.vocoder import GriffinLim
from advgan.training.adversarial_task import ConvertTask, PerturbTask
from advgan.victim.loss import GuardLoss
from speakerguard.errors import CheckpointError, ConfigError
from speakerguard.sound.audio import SAMPLE_RATE, read
from speakerguard.verification.calibration import CalibrationFile
from speakerguard.verification.verifier import Verifier


@pytest.fixture(scope="module")
def guard(tiny_model: Path) -> GuardLoss:
    """The guard of the tests, as part of a loss."""
    return GuardLoss(tiny_model)


@pytest.mark.parametrize("through", ["waveform", "mel"])
def test_the_guards_gradient_is_that_of_its_score(
    guard: GuardLoss, real_speech: dict[str, list[Path]], through: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Finite differences along the gradient itself, through front end and network."""
    torch.manual_seed(0)
    clip = torch.from_numpy(read(next(iter(real_speech.values()))[2])[: 320 * 60])[None]
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


def at_cosine(voice: torch.Tensor, cosine: float) -> torch.Tensor:
    """A unit vector (1, D) at this cosine to ``voice`` (1, D)."""
    other = torch.roll(voice, 1, dims=1)
    other = other - (other @ voice.T) * voice
    return cosine * voice + (1 - cosine**2) ** 0.5 * other / other.norm()


@pytest.mark.parametrize("name", ["tiny_model", "normalised_model"])
def test_the_guards_loss_is_zero_where_its_decision_is_to_accept(
    name: str, request: pytest.FixtureRequest, speech: dict[str, list[Path]]
) -> None:
    """Along a path to the voice, both turn at the same place; the margin is a cosine."""
    verifier = Verifier(request.getfixturevalue(name))
    guard, scoring = GuardLoss(verifier.embedder.folder), verifier.scoring
    assert guard.threshold == verifier.calibration.point().threshold
    assert not guard.train().encoder.training
    voice = torch.from_numpy(np.stack(verifier.embed([next(iter(speech.values()))[0]])))
    seen = set()
    for cosine in np.linspace(0.5, 1, 60):
        made = at_cosine(voice, float(cosine)).requires_grad_()
        passes = scoring.score(voice[0].numpy(), made[0].detach().numpy()) >= guard.threshold
        lack = guard(made, voice, 0.0)
        assert (lack == 0) == passes
        assert guard(made, voice, 0.1).item() >= 0.1 - 1e-5 or passes
        if not passes:
            assert guard(made, voice, 0.1).item() == pytest.approx(lack.item() + 0.1, abs=1e-5)
            (slope,) = torch.autograd.grad(lack, made)
            if scoring.cohort is None:
                torch.testing.assert_close(slope, -voice)  # towards the voice and nowhere else
            with torch.no_grad():
                step = 1e-3 * slope / slope.norm()
                ahead, behind = (guard(made + sign * step, voice, 0.5) for sign in (1, -1))
            found = (ahead - behind).item() / 2e-3
            assert found == pytest.approx(slope.norm().item(), rel=0.05)
        seen.add(bool(passes))
    assert seen == {True, False}


def test_thresholds_of_other_weights_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "g")
    thresholds = CalibrationFile.load(tmp_path / "g" / "calibration.json")
    replace(thresholds, model="0123456789abcdef").save(tmp_path / "g" / "calibration.json")
    with pytest.raises(CheckpointError, match="calibrate again"):
        GuardLoss(tmp_path / "g")


def test_a_generator_is_pulled_over_the_threshold(make: Make, tmp_path: Path) -> None:
    """Learning one batch by heart: the guard's score of conversions rises."""
    loss = {"guard": 10, "reconstruction": 0.1, "content": 0, "gan": 0}
    config = make("convert", tmp_path, loss=loss, learning_rate=1e-2)
    task = ConvertTask(config, quiet)  # type: ignore[arg-type]
    losses = [task.learn(0)["guard"] for _ in range(30)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_generator_must_be_told_the_guards_embeddings_or_none(make: Make, tmp_path: Path) -> None:
    model = {"width": 8, "blocks": 2, "embedding": 7}
    with pytest.raises(ConfigError, match=r"model\.embedding is 7, .* 192"):
        ConvertTask(make("convert", tmp_path, model=model), quiet)  # type: ignore[arg-type]


def test_a_perturber_must_know_the_guards_embeddings(make: Make, tmp_path: Path) -> None:
    config = make("perturb", tmp_path, perturber={"width": 8, "blocks": 2, "embedding": 64})
    with pytest.raises(ConfigError, match=r"embedding is 64, but .* of 192 values"):
        PerturbTask(config, quiet)  # type: ignore[arg-type]
