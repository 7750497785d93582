"""Filterbanks, against those of other programs."""

from collections.abc import Callable
from typing import Any

import librosa
import numpy as np

from speakerguard.sound.filterbank import (
    BANDS,
    FFT,
    WINDOWS,
    fbank,
    kaldi_filters,
    mel_filters,
)

Sound = Callable[..., Any]


def test_filters_are_librosas() -> None:
    expected = librosa.filters.mel(
        sr=16_000, n_fft=FFT, n_mels=BANDS, fmin=20, fmax=7_600, htk=True, norm=None
    )
    np.testing.assert_allclose(mel_filters(BANDS, 20, 7_600), expected, atol=1e-6)


def test_the_filterbank_is_that_of_campplus(campplus: Any, sound: Sound) -> None:
    import torch

    clip = sound(16_000)
    with torch.inference_mode():
        expected = campplus.features(torch.from_numpy(clip)[None])[0].numpy()
    found = fbank(clip, kaldi_filters(80, 20, 8_000), WINDOWS["povey"])
    np.testing.assert_allclose(found - found.mean(axis=0), expected, atol=2e-3)


def test_filters_are_close_to_those_linear_in_frequency() -> None:
    ours, other = kaldi_filters(64, 20, 7_600), mel_filters(64, 20, 7_600)
    assert (np.argmax(ours, axis=1) == np.argmax(other, axis=1)).mean() > 0.8
    assert ours.max() <= 1
