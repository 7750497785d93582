import librosa
import numpy as np
import numpy.typing as npt
import pytest
import python_speech_features
import scipy.signal
import torch

from speakerguard.errors import UsageError
from speakerguard.network.front_end import FRONT_ENDS, DeepSpeakerFrontEnd, LogMelFrontEnd
from speakerguard.sound.filterbank import BANDS, FFT, HOP, WINDOW

LENGTHS = (400, 401, 560, 8_000, 8_001, 12_345, 16_000)


def sound(samples: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Coloured noise under a slow envelope: every band moves, none is empty."""
    rng = np.random.default_rng(seed)
    noise = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(samples))
    return 0.05 * noise * (1.2 + np.sin(np.arange(samples) / 900))


@pytest.mark.parametrize("samples", LENGTHS)
def test_logmel_is_what_librosa_makes(samples: int) -> None:
    waveform = sound(samples)
    emphasised = librosa.effects.preemphasis(waveform, coef=0.97, zi=[0.0])
    frames = librosa.util.frame(emphasised, frame_length=WINDOW, hop_length=HOP)
    window = scipy.signal.get_window("hamming", WINDOW, fftbins=False)
    power = np.abs(np.fft.rfft(frames * window[:, None], n=FFT, axis=0)) ** 2
    filters = librosa.filters.mel(
        sr=16_000, n_fft=FFT, n_mels=BANDS, fmin=20, fmax=7_600, htk=True, norm=None
    )
    expected = np.log(filters @ power + 1e-8).T
    expected -= expected.mean(axis=0)
    bands = LogMelFrontEnd()(torch.from_numpy(waveform).float()[None])[0]
    np.testing.assert_allclose(bands.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("samples", [1, 399, *LENGTHS])
def test_deep_speaker_is_what_python_speech_features_makes(samples: int) -> None:
    waveform = sound(samples)
    energy, _ = python_speech_features.fbank(
        waveform, samplerate=16_000, nfilt=64, winlen=0.025, winstep=0.01
    )
    expected = [(frame - frame.mean()) / max(frame.std(), 1e-12) for frame in energy]
    bands = DeepSpeakerFrontEnd().double()(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(bands.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("samples", LENGTHS)
def test_frames_counts_what_forward_gives(name: str, samples: int) -> None:
    front_end = FRONT_ENDS[name]()
    bands = front_end(torch.zeros(1, samples))
    assert bands.shape == (1, int(front_end.frames(torch.tensor(samples))), BANDS)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_padding_changes_nothing(name: str) -> None:
    front_end = FRONT_ENDS[name]().double()
    lengths = torch.tensor([400, 8_077, 16_000])
    clips = [torch.from_numpy(sound(int(n), seed=int(n))) for n in lengths]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = front_end(batch, lengths)
    for clip, row in zip(clips, together, strict=True):
        alone = front_end(clip[None])[0]
        torch.testing.assert_close(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_gradient_is_the_slope(name: str) -> None:
    front_end = FRONT_ENDS[name]().double()
    waveform = torch.from_numpy(sound(900)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: front_end(x[None]), (waveform,), eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True
    )


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_gain_makes_no_difference(name: str) -> None:
    front_end = FRONT_ENDS[name]()
    waveform = torch.from_numpy(sound(16_000)).float()[None]
    difference = front_end(waveform) - front_end(waveform / 4)
    assert difference.abs().max() < 0.01


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_silence_is_finite(name: str) -> None:
    assert torch.isfinite(FRONT_ENDS[name]()(torch.zeros(1, 8_000))).all()


@pytest.mark.parametrize("lengths", [None, torch.tensor([399, 16_000])])
def test_a_clip_without_a_frame_is_refused(lengths: torch.Tensor | None) -> None:
    samples = 399 if lengths is None else 16_000
    with pytest.raises(UsageError, match="399 samples is too short; 400"):
        LogMelFrontEnd()(torch.zeros(2, samples), lengths)
