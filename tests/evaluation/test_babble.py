"""Babble on real speech: how loud it is, who talks, and that it repeats."""

from pathlib import Path

import numpy as np
import pytest

from speakerguard.errors import UsageError
from speakerguard.evaluation.babble import VOICES, Babble
from speakerguard.sound.audio import read
from speakerguard.sound.speech import TIGHT, load_speech


@pytest.fixture(scope="module")
def files(shared: Path) -> dict[str, Path]:
    root = shared / "corpus" / "dev" / "vctk"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    speakers = sorted(root.iterdir())[:6]
    return {f"vctk/{s.name}/{p.name}": p for s in speakers for p in sorted(s.iterdir())[:2]}


def level(samples: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("snr", [0.0, 5.0])
def test_babble_lies_so_far_below_the_speech(files: dict[str, Path], snr: float) -> None:
    name = next(iter(files))
    babble, clean = Babble(files, snr), read(files[name])
    parts = np.stack([clean, babble.behind(name, len(clean))], axis=1).astype(np.float64)
    mixed = babble.mixed(name)
    (voice, noise), *_ = np.linalg.lstsq(parts, mixed, rcond=None)
    np.testing.assert_allclose(parts @ [voice, noise], mixed, atol=1e-5)
    speech = voice * load_speech(files[name]).within(TIGHT)
    assert level(speech) - level(noise * parts[:, 1]) == pytest.approx(snr, abs=0.01)
    assert np.abs(mixed).max() <= 1


def test_speech_is_found_in_the_mixture(files: dict[str, Path]) -> None:
    name = next(iter(files))
    heard = Babble(files, 5.0)(name)
    assert heard.net_seconds > 0.8 * load_speech(files[name]).net_seconds


def test_the_same_name_hears_the_same_babble(files: dict[str, Path]) -> None:
    first, second = list(files)[:2]
    here, there = Babble(files, 5.0), Babble(dict(reversed(files.items())), 5.0)
    np.testing.assert_array_equal(here.behind(first, 16_000), there.behind(first, 16_000))
    assert not np.array_equal(here.behind(first, 16_000), here.behind(second, 16_000))


def test_nobody_babbles_behind_themselves(files: dict[str, Path]) -> None:
    babble = Babble(files, 5.0)
    name = next(iter(files))
    heard: list[str] = []
    kept = babble._speech

    def listen(other: str) -> np.ndarray:
        heard.append(other)
        return kept(other)

    babble._speech = listen  # type: ignore[assignment]
    babble.behind(name, 8_000)
    speakers = {other.split("/")[1] for other in heard}
    assert len(speakers) == VOICES
    assert name.split("/")[1] not in speakers


def test_too_few_speakers_are_refused(files: dict[str, Path]) -> None:
    few = dict(list(files.items())[:6])  # three speakers
    with pytest.raises(UsageError, match="needs 4 speakers besides"):
        Babble(few, 5.0)
