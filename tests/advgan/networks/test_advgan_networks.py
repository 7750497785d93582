"""Mel convention, generator, vocoders, discriminator, perturber: shapes, identities, gradients."""

import math
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from advgan.legacy import main
from advgan.networks import checkpoint, mel
from advgan.networks.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    deceive_loss,
    detect_loss,
    judge_loss,
)  # fmt: skip
from advgan.networks.generator import Generator, GeneratorConfig, normalise
from advgan.networks.mel import STANDARD, MelConvention, MelSpectrogram
from advgan.networks.original import load_pth
from advgan.networks.perturber import Perturber, PerturberConfig
from advgan.networks.vocoder import GriffinLim, NeuralVocoder, VocoderConfig
from advgan.training.vocoder_task import SpectralLoss, compressed_distance
from speakerguard.errors import AudioError, CheckpointError

TINY = GeneratorConfig(width=8, blocks=2)


@pytest.fixture(scope="module")
def clip(speech: dict[str, list[Path]]) -> torch.Tensor:
    """A real clip, (1, n), 22.05 kHz."""
    return torch.from_numpy(mel.read(next(iter(speech.values()))[0]))[None]


def generator(config: GeneratorConfig = TINY, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    network = Generator(config)
    with torch.no_grad():
        for _ in range(3):  # so that its normalisation has seen something
            network.train()(torch.randn(4, 80, 40) - 2, torch.randn(4, 80, 40) - 2)
    return network.eval()


def test_mel_equals_librosa_with_a_floor(clip: torch.Tensor) -> None:
    theirs = librosa.feature.melspectrogram(
        y=clip[0].numpy(), sr=22_050, n_fft=1024, hop_length=256, n_mels=80, power=1.0,
        pad_mode="reflect",
    )  # fmt: skip
    ours = MelSpectrogram()(clip)[0].numpy()
    # 2e-4 in logarithms; and 1e-8, since processors round quiet bands each in their own way
    bands = 10 ** ours.astype(np.float64)
    np.testing.assert_allclose(bands, np.maximum(theirs, 1e-5), rtol=2e-4 * np.log(10), atol=1e-8)


def test_mel_of_digital_silence_is_the_floor() -> None:
    assert torch.equal(MelSpectrogram()(torch.zeros(1, 4_000)), torch.full((1, 80, 16), -5.0))
    assert STANDARD.silence == -5.0


def test_resampling_there_and_back_keeps_what_both_rates_hold() -> None:
    time = torch.arange(22_050) / 22_050
    tone = torch.sin(2 * math.pi * 1_000 * time)[None]
    down = mel.to_guard(tone)
    expected = torch.sin(2 * math.pi * 1_000 * torch.arange(16_000) / 16_000)[None]
    torch.testing.assert_close(down, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(mel.from_guard(down), tone, atol=1e-3, rtol=0)


def test_recordings_are_read_at_one_level_and_short_ones_refused(clip: torch.Tensor) -> None:
    assert clip.square().mean().sqrt().item() == pytest.approx(mel.LEVEL, rel=1e-3)
    with pytest.raises(AudioError, match=r"only 0\.05 s long; at least 0\.19 s"):
        mel.read((np.ones(800, np.float32) * 0.1, 16_000))


def test_conventions_that_differ_are_refused_with_both_shown() -> None:
    other = MelConvention(f_max=8_000)
    with pytest.raises(CheckpointError, match=r"(?s)f_max=8000.*f_max=11025"):
        STANDARD.require(other, "the vocoder x")


def test_published_size() -> None:
    def size(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    network = Generator()
    assert size(network) == 7_931_476
    assert size(network.encoder) == 2_387_204
    assert size(network.decoder.gru) == 789_504
    assert 1.9e6 < size(Generator(GeneratorConfig(width=128))) < 2.1e6
    assert 1e6 < size(NeuralVocoder()) < 4e6


def test_normalisation_is_the_published_one() -> None:
    x = torch.randn(2, 3, 50) * 4 + 1
    y, voice = normalise(x)
    torch.testing.assert_close(voice.deviation[..., 0], (x.var(dim=2) + 1e-5).sqrt())
    torch.testing.assert_close(y * voice.deviation + voice.mean, x)


def test_a_batch_is_converted_as_its_clips_one_by_one() -> None:
    network = generator()
    source, target = torch.randn(3, 80, 50) - 2, torch.randn(3, 80, 41) - 2
    whole = network(source, target)
    assert whole.shape == source.shape
    for index in range(3):
        one = network(source[index : index + 1], target[index : index + 1])
        torch.testing.assert_close(whole[index : index + 1], one, atol=1e-5, rtol=0)


def test_a_generator_that_is_told_an_embedding_depends_on_it() -> None:
    network = generator(TINY.model_copy(update={"embedding": 5}))
    torch.nn.init.normal_(network.decoder.told.weight)
    source, told = torch.randn(2, 80, 50) - 2, torch.randn(2, 5)
    both = network(source, source, told)
    assert (both - network(source, source)).abs().mean() > 0.01
    torch.testing.assert_close(both[1:], network(source[1:], source[1:], told[1:]))


def test_the_gru_runs_over_time_and_in_legacy_over_the_batch() -> None:
    source, target = torch.randn(2, 80, 48) - 2, torch.randn(2, 80, 48) - 2
    state = generator().state_dict()
    legacy = Generator(TINY.model_copy(update={"legacy": True})).eval()
    legacy.load_state_dict(state)
    alone = legacy(source[1:], target[1:])
    assert (legacy(source, target)[1:] - alone).abs().max() > 1e-3  # clips leak, as in the original
    torch.testing.assert_close(legacy(source, target)[:1], legacy(source[:1], target[:1]))
    sequence = torch.randn(1, 30, 8)
    for gru, reach in ((generator().decoder.gru, 20), (legacy.decoder.gru, 1)):
        changed = sequence.clone()
        changed[0, 10] += 1
        moved = (gru(changed)[0] - gru(sequence)[0]).abs().amax(dim=(0, 2)) > 0
        assert moved.sum() == reach


def test_the_voice_comes_from_the_target_and_the_words_from_the_source() -> None:
    network = generator()
    source, target = torch.randn(1, 80, 60) - 2, torch.randn(1, 80, 60) - 2
    order = torch.randperm(60)
    encoded = network.encode(target)
    assert encoded.content.shape == (1, 4, 60)
    assert 0 < encoded.content.min() < encoded.content.max() < 1
    louder = network(source, target + 1)
    assert (louder - network(source, target)).abs().mean() > 0.01
    assert (network(source[:, :, order], target) - network(source, target)).abs().mean() > 0.01


def original_layout(network: Generator) -> dict[str, torch.Tensor]:
    """The weights under the names that the original gives them."""
    renamed = {}
    for name, tensor in network.state_dict().items():
        part, *rest = name.split(".")
        kind = rest[0]
        if kind in {"blocks", "refine"}:
            block = {"encoder": "conv1d_blocks", "decoder": "conv_blocks"}[part]
            inner = {"encoder": "seq", "decoder": {"blocks": "dec_block", "refine": "gen_block"}}
            middle = inner[part] if part == "encoder" else inner[part][kind]
            conv = "" if rest[2] == "1" else "conv."
            renamed[f"{part}.{block}.{rest[1]}.{middle}.{rest[2]}.{conv}{rest[3]}"] = tensor
        elif kind == "gru":
            renamed[f"decoder.rnn.{rest[1]}"] = tensor
        else:
            ours = {"encoder.first": "conv1d_first.conv", "encoder.last": "out_layer.conv",
                    "decoder.first": "in_layer.conv", "decoder.last": "out_layer"}  # fmt: skip
            renamed[f"{part}.{ours[f'{part}.{kind}']}.{rest[1]}"] = tensor
    return renamed


def test_original_checkpoints_load_and_convert_as_they_did(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"legacy": True})
    network = generator(config)
    path = tmp_path / "steps_100000.pth"
    torch.save({"model": original_layout(network), "optimizer": {}, "steps": 100_000}, path)
    loaded = load_pth(path)
    assert loaded.config == config
    source, target = torch.randn(1, 80, 45) - 2, torch.randn(1, 80, 33) - 2
    assert torch.equal(loaded(source, target), network(source, target))
    main([str(path), str(tmp_path / "converted")])
    again = checkpoint.load("generator", tmp_path / "converted").network
    torch.testing.assert_close(again(source, target), network(source, target), atol=0.02, rtol=0)


def test_nobody_is_told_to_run_what_a_checkpoint_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model": original_layout(generator()), "path": tmp_path}, path)
    with pytest.raises(CheckpointError, match=r"x\.pth: damaged, or not .* is not run") as caught:
        load_pth(path)
    assert "weights_only" not in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_pth(tmp_path)


@pytest.mark.parametrize("damage", ["text", "foreign", "missing", "short", "none"])
def test_files_that_are_no_original_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.pth"
    state = original_layout(generator())
    if damage == "text":
        path.write_text("no weights")
    elif damage == "foreign":
        torch.save({"model": state | {"resnet.weight": torch.zeros(1)}}, path)
    elif damage == "missing":
        torch.save({"model": {n: t for n, t in state.items() if "rnn" not in n}}, path)
    elif damage == "short":
        torch.save({"model": state}, path)
        path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        load_pth(path)


def test_griffin_lim_copies_real_speech(real_speech: dict[str, list[Path]]) -> None:
    clip = torch.from_numpy(mel.read(next(iter(real_speech.values()))[0]))[None]
    transform = MelSpectrogram()
    real = transform(clip)
    copied = transform(GriffinLim()(real))
    frames = copied.shape[2]
    assert (copied - real[:, :, :frames]).abs().mean() < 0.07
    assert torch.equal(GriffinLim()(real), GriffinLim()(real))
    assert GriffinLim()(torch.full((1, 80, 20), -5.0)).abs().max() == 0


@pytest.mark.parametrize("kind", ["griffin-lim", "neural"])
def test_sound_depends_smoothly_on_the_mel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against finite differences, the phases of Griffin-Lim held, as the gradient holds them."""
    torch.manual_seed(0)
    values = torch.randn(1, 80, 12, dtype=torch.float32) * 0.3 - 2
    probe, direction = torch.randn(1, 11 * 256), torch.randn(1, 80, 12)
    vocoder: NeuralVocoder | GriffinLim = GriffinLim(iterations=2).double()
    if kind == "neural":
        vocoder = NeuralVocoder(VocoderConfig(width=16, hidden=16, blocks=1)).double()
    else:
        phases = vocoder._phases(vocoder.magnitudes(values.double()))
        monkeypatch.setattr(vocoder, "_phases", lambda _: phases)
    values, probe, direction = values.double(), probe.double(), direction.double()
    values.requires_grad_()
    (vocoder(values) * probe).sum().backward()
    assert values.grad is not None
    slope = (values.grad * direction).sum().item()
    step = 1e-3
    with torch.no_grad():
        ahead, behind = (
            (vocoder(values + sign * step * direction) * probe).sum() for sign in (1, -1)
        )
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((ahead - behind).item() / (2 * step), rel=0.02)


def test_phases_are_found_for_the_magnitudes_of_a_network(clip: torch.Tensor) -> None:
    """From phases drawn by lot, Griffin-Lim comes near the magnitudes that were asked for."""
    torch.manual_seed(0)
    transform = MelSpectrogram()
    wanted = transform.magnitudes(clip)
    angles = 6.3 * torch.rand(wanted.shape)
    small = VocoderConfig(width=4, hidden=4, blocks=1)
    far = []
    for iterations in (0, 16):
        network = NeuralVocoder(small.model_copy(update={"iterations": iterations}))
        made = network.sound((wanted + 1e-5).log(), angles)
        assert made.shape[1] == (wanted.shape[2] - 1) * 256
        far.append(compressed_distance(transform.magnitudes(made), wanted))
    assert far[1] < 0.5 * far[0]


def test_spectral_loss_is_zero_for_equal_sounds_only(clip: torch.Tensor) -> None:
    loss = SpectralLoss()
    assert loss(clip, clip) == 0
    assert loss(clip * 0.5, clip) > 0.3


def test_discriminator_learns_a_difference_and_its_losses_have_the_right_sign() -> None:
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(width=4, layers=3))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    real, made = torch.randn(6, 80, 64) - 2, torch.randn(6, 80, 64).cumsum(dim=2) * 0.2 - 2
    for _ in range(25):
        optimiser.zero_grad()
        judge_loss(network(real), network(made)).backward()
        optimiser.step()
    scores = network.score(torch.cat([real, made]))
    assert scores[:6].min() > scores[6:].max()
    assert deceive_loss(network(real)) < deceive_loss(network(made))
    truth = torch.tensor([True] * 6 + [False] * 6)
    assert detect_loss(scores, truth) < detect_loss(-scores, truth)
    assert network(torch.zeros(1, 80, 3)).numel() > 0  # shorter than a patch


def test_perturbations_keep_their_bound_and_know_the_target() -> None:
    torch.manual_seed(0)
    network = Perturber(PerturberConfig(width=8, blocks=2, epsilon=0.01))
    waveform = torch.randn(2, 3_001) * 0.3
    voices = nn.functional.normalize(torch.randn(2, 192), dim=1)
    with torch.no_grad():
        network.synthesise.weight *= 100
        delta = network.delta(waveform, voices)
    assert delta.shape == waveform.shape
    assert 0.009 < delta.abs().max() <= 0.01
    assert not torch.allclose(delta, network.delta(waveform, voices.flip(0)))
    assert network(torch.ones(1, 500), voices[:1]).max() <= 1
