"""What the recogniser makes of speech whose text is known."""

from pathlib import Path

import numpy as np
import pytest
import soxr

from advgan.conversion.converter import Copier
from advgan.conversion.recording import Utterance
from advgan.judging import words
from advgan.judging.words import Transcript, compare, distance, transcribe
from speakerguard.sound.audio import SAMPLE_RATE, Waveform, read
from speakerguard.sound.espeak import synthesise


def heard(waveform: Waveform) -> Transcript:
    pytest.importorskip("pocketsphinx")
    found = transcribe(waveform)
    assert found is not None
    return found


def test_words_are_those_that_were_said(tmp_path: Path) -> None:
    """Of a synthesiser, since its text is at hand; its sound is strange to the recogniser."""
    (path,) = synthesise(tmp_path, speakers=1, utterances=1)
    assert heard(read(path)).words[:3] == ("my", "brother", "keeps")


def test_a_copy_keeps_more_words_than_noise_does(shared: Path) -> None:
    """Said was: many complicated ideas about the rainbow have been formed."""
    waveform = read(shared / "corpus" / "dev" / "vctk" / "p227" / "p227_020.opus")
    source = heard(waveform)
    assert source.words[:6] == ("many", "complicated", "ideas", "about", "the", "rainbow")
    assert source.sureness > words.SURE
    assert heard(0.125 * waveform) == source  # and no memory of what was heard before
    wide = Copier("griffin-lim").convert(Utterance("x", waveform))
    copy = compare(source, heard(soxr.resample(wide, Copier.rate, SAMPLE_RATE)))
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    nothing = compare(source, heard(noise))
    assert copy is not None
    assert nothing is not None
    assert copy.error_rate < 0.6 < nothing.error_rate


def test_errors_are_counted_as_edits() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = (rng.integers(3, size=rng.integers(8)).astype(str).tolist() for _ in range(2))
        assert distance(a, b) == distance(b, a)
        assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))
    assert distance(["the", "cat", "sat"], ["the", "black", "cat", "sits"]) == 2
    source, made = ("a", "b", "c"), ("a", "x", "y", "z", "w")
    found = compare(Transcript(source, -1.0), Transcript(made, -9.0))
    assert found is not None
    assert (found.errors, found.error_rate, found.made) == (4, 4 / 3, "a x y z w")


def test_there_is_no_figure_without_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("a", "b", "c")
    sure, unsure = Transcript(said, -1.0), Transcript(said, words.SURE - 0.1)
    assert compare(unsure, sure) is None
    assert compare(sure, unsure) is not None
    assert compare(Transcript(said[: words.LEAST - 1], -1.0), sure) is None
    assert compare(sure, None) is None
    monkeypatch.setattr(words, "_decoder", lambda: None)
    assert transcribe(np.zeros(16_000, np.float32)) is None


def test_another_language_gives_no_reference(shared: Path) -> None:
    recordings = sorted((shared / "corpus" / "dev" / "mls_pt").rglob("*.opus"))[::25]
    assert recordings
    for path in recordings:
        assert heard(read(path)[: 3 * SAMPLE_RATE]).sureness < words.SURE
