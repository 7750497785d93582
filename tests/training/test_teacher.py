"""The teacher's tests never download: they run where its weights lie in the cache already."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from speakerguard.embedders.peers_torch import CamPlusPlus
from speakerguard.sound.voice import at_speed
from speakerguard.training import teacher
from speakerguard.training.data import SpeechSet
from speakerguard.training.teacher import teach

Sound = Callable[..., npt.NDArray[np.float32]]


def test_each_segment_gets_its_own_embedding_once(
    campplus: CamPlusPlus, sound: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = np.array([30_000, 14_000, 22_000])
    clips = [sound(int(n), seed) for seed, n in enumerate(lengths)]
    speech = SpeechSet(
        tmp_path,
        np.concatenate([(clip * 32_767).astype(np.int16) for clip in clips]),
        np.array([0, 30_000, 44_000]),
        lengths,
        ("a", "b", "c"),
        ("a/1", "b/1", "c/1"),
    )
    made = []
    monkeypatch.setattr(teacher, "CamPlusPlus", lambda: made.append(1) or campplus)
    found = teach(speech, batch_seconds=1)
    for clip, row in zip(clips, found, strict=True):
        with torch.inference_mode():
            alone = campplus(torch.from_numpy(clip)[None])[0].numpy()
        assert alone @ row.astype(np.float32) > 0.99  # bfloat16 and float16 lie between
    np.testing.assert_array_equal(teach(speech), found)
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["campplus-1.npy"]


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_moves_the_pitch(speed: float) -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(32_000) / 16_000).astype(np.float32)
    faster = at_speed(tone, speed)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(32_000 / speed, abs=2)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert spectrum.argmax() * 16_000 / len(faster) == pytest.approx(200 * speed, abs=1)
