"""What the attacker's training hears, and lists of pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.attacking import Make, quiet

from advgan.networks.mel import MelSpectrogram, from_guard
from advgan.training.batches import Crops, crop_samples
from advgan.training.task import swap_halves


def test_crops_are_of_the_asked_length_and_speakers(make: Make, tmp_path: Path) -> None:
    config = make("vc", tmp_path)
    crops = Crops(config, quiet)
    count = crop_samples(config.frames)
    assert MelSpectrogram()(from_guard(torch.zeros(1, count))).shape[2] >= config.frames
    first, second = crops.draw_targets(3, crops.rng(5))
    assert first.shape == second.shape == (3, count)
    assert not torch.equal(first, second)
    longer, _ = crops.draw_targets(3, crops.rng(5), seconds=2.005, speeds=(0.8, 1.25))
    assert longer.shape == (3, 32_000)
    assert not torch.equal(longer, crops.draw_targets(3, crops.rng(5), seconds=2.0)[0])
    assert torch.equal(crops.draw(2, crops.rng(1)), crops.draw(2, crops.rng(1)))
    assert swap_halves(torch.arange(6.0).view(1, 1, 6)).flatten().tolist() == [3, 4, 5, 0, 1, 2]


def test_an_invented_voice_speaks_in_both_crops_of_a_target(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = Crops(make("vc", tmp_path), quiet)
    plain = crops.draw(3, crops.rng(1))
    assert not torch.equal(crops.draw(3, crops.rng(1), invented=1.0), plain)
    who: list[float] = []

    def speak(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        who.append(rng.random())
        return waveform

    monkeypatch.setattr("advgan.training.batches.invent_voice", speak)
    first, second = crops.draw_targets(3, crops.rng(5), seconds=2.0, invented=1.0)
    assert first.shape == second.shape == (3, 32_000)
    assert who[:3] == who[3:]
    assert len(set(who)) == 3
    crops.draw_targets(3, crops.rng(5), invented=0.0)
    assert len(who) == 6
