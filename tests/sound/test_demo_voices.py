"""The demo voices: right format, the same every time, and different from one another."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerguard.errors import UsageError
from speakerguard.sound.espeak import VOICES, synthesise

espeakng_loader = pytest.importorskip("espeakng_loader")


def pitch(path: Path) -> float:
    """Rough fundamental frequency in Hz: the median autocorrelation peak of loud frames."""
    samples, rate = soundfile.read(path)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 640)[::320]
    loud = frames[np.square(frames).sum(axis=1) > np.square(frames).sum(axis=1).mean()]
    peaks = []
    for frame in loud:
        correlation = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        low, high = rate // 400, rate // 60
        peaks.append(rate / (low + int(correlation[low:high].argmax())))
    return float(np.median(peaks))


def test_files_are_as_promised(tmp_path: Path) -> None:
    paths = synthesise(tmp_path, speakers=len(VOICES), utterances=3)
    assert paths == sorted(tmp_path.glob("*/*.wav"))
    assert len({path.parent for path in paths}) == len(VOICES)
    assert len(paths) == 3 * len(VOICES)
    lengths = set()
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 4 <= info.duration <= 6
        samples, _ = soundfile.read(path)
        assert 0.5 < np.abs(samples).max() < 0.99
        assert np.sqrt(np.mean(samples**2)) > 0.03
        lengths.add(info.frames)
    assert len(lengths) == len(paths)


def test_the_same_arguments_give_the_same_samples(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in synthesise(tmp_path / "a", 2, 2, seed=3)]
    again = [path.read_bytes() for path in synthesise(tmp_path / "b", 2, 2, seed=3)]
    other = [path.read_bytes() for path in synthesise(tmp_path / "c", 2, 2, seed=4)]
    assert first == again
    assert first != other


def test_speakers_differ_more_than_their_utterances(tmp_path: Path) -> None:
    paths = synthesise(tmp_path, speakers=4, utterances=3)
    pitches = np.array([pitch(path) for path in paths]).reshape(4, 3)
    between = np.ptp(pitches.mean(axis=1))
    assert between > 3 * pitches.std(axis=1).max()


@pytest.mark.parametrize(("speakers", "utterances"), [(0, 1), (99, 1), (1, 0), (1, 101)])
def test_too_many_or_too_few(tmp_path: Path, speakers: int, utterances: int) -> None:
    with pytest.raises(UsageError, match="demo speakers"):
        synthesise(tmp_path, speakers, utterances)


def test_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library cuts paths off at 160 bytes; an installation may lie deeper."""
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    (deep / "data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "data"))
    assert len(synthesise(tmp_path, 1, 1)) == 1


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UsageError, match=r"pip install speakerguard\[demo\].*SPEAKERGUARD_DATA"):
        synthesise(tmp_path)
