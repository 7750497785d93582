import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from advgan import manifest
from speakerguard.errors import NoSpeechError, UsageError
from speakerguard.sound.audio import SAMPLE_RATE, read
from speakerguard.sound.corpus import find_utterances
from speakerguard.sound.speech import FRAME, Speech
from speakerguard.training import data
from speakerguard.training.data import SpeechSet, prepare


def tone(seconds: float, hz: float = 200.0) -> npt.NDArray[np.float64]:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def put(path: Path, samples: npt.NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE)
    return path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes all of a recording for speech, unless it is quiet; lists the recordings read."""
    names = []

    def load_speech(path: Path) -> Speech:
        names.append(path.name)
        samples = read(path)
        if np.abs(samples).max() < 0.01:
            raise NoSpeechError(f"{path.name}: no speech found.")
        kept = np.ones(-(-len(samples) // FRAME), bool)
        seconds = len(samples) / SAMPLE_RATE
        return Speech(path.name, samples, kept, kept, seconds, seconds)

    monkeypatch.setattr(data, "load_speech", load_speech)
    return names


@pytest.mark.parametrize(
    ("files", "speakers"),
    [
        (["ann/1.wav", "ann/2.flac", "bo/1.ogg"], ["ann", "ann", "bo"]),
        (["a/ann/1.wav", "b/ann/1.wav"], ["a/ann", "b/ann"]),
        (
            ["19/198/19-198-0001.flac", "19/227/19-227-0001.flac", "26/495/26-495-0000.flac"],
            ["19", "19", "26"],
        ),
    ],
    ids=["speaker/utterance", "source/speaker/utterance", "LibriSpeech"],
)
@pytest.mark.usefixtures("loaded")
def test_three_layouts_are_understood(
    tmp_path: Path, files: list[str], speakers: list[str]
) -> None:
    root = tmp_path / "corpus"
    for name in files:
        put(root / name, tone(1))
    (root / "readme.txt").write_text("not a recording")
    (root / "folder.wav").mkdir()
    assert [path.as_posix() for path in find_utterances(root)] == files
    speech = prepare(root, tmp_path / "cache")
    assert list(speech.speakers) == speakers
    assert list(speech.utterances) == files
    assert prepare(root, tmp_path / "cache", labelled=False).speakers == (None,) * len(files)


def test_speech_comes_back_as_it_was(tmp_path: Path, loaded: list[str]) -> None:
    put(tmp_path / "corpus/ann/long.wav", tone(13))
    put(tmp_path / "corpus/bo/short.wav", tone(1, hz=300))
    steps = []
    speech = prepare(
        tmp_path / "corpus", tmp_path / "cache", progress=lambda *step: steps.append(step)
    )
    assert steps == [(1, 2), (2, 2)]
    assert loaded == ["long.wav", "short.wav"]
    assert len(speech) == 4
    assert speech.seconds == pytest.approx(14)
    assert speech.lengths.max() <= data.SEGMENT_SECONDS * SAMPLE_RATE
    assert np.ptp(speech.lengths[:3]) <= 1
    whole = np.concatenate([speech.segment(index) for index in range(3)])
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, tone(13), atol=1e-4)
    np.testing.assert_allclose(speech.segment(3), tone(1, hz=300), atol=1e-4)


def test_full_scale_does_not_turn_over(tmp_path: Path, loaded: list[str]) -> None:
    put(tmp_path / "corpus/ann/loud.wav", np.sign(tone(1)))
    segment = prepare(tmp_path / "corpus", tmp_path / "cache").segment(0)
    np.testing.assert_allclose(segment, np.sign(tone(1)), atol=1e-3)


@pytest.mark.skipif(os.name == "nt", reason="file names are always Unicode on Windows")
def test_names_that_are_no_utf_8_are_names(tmp_path: Path, loaded: list[str]) -> None:
    odd = os.fsdecode(b"ann\xff")
    put(tmp_path / "corpus/ann/1.wav", tone(1))
    (tmp_path / "corpus/ann").rename(tmp_path / "corpus" / odd)
    first, second = (prepare(tmp_path / "corpus", tmp_path / "cache") for _ in range(2))
    assert first.speakers == second.speakers == (odd,)
    manifest.append(tmp_path, {"id": "0", "source": f"{odd}/1.wav"})
    assert manifest.read_journal(tmp_path)["0"]["source"] == f"{odd}/1.wav"
    row = {"output": "0.wav", "source": odd, "accepted": False}
    manifest.write_manifest(tmp_path, [row], {})
    assert manifest.read_manifest(tmp_path) == [tmp_path / "0.wav"]
    assert os.fsencode(odd) in (tmp_path / manifest.TSV).read_bytes()


def test_folders_that_list_alike_are_not_taken_for_each_other(
    tmp_path: Path, loaded: list[str]
) -> None:
    """As two sets of conversions of the same recordings are."""
    found = []
    for name, seed in (("one", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        noise = 0.1 * np.random.default_rng(seed).standard_normal(32_000)
        soundfile.write(tmp_path / name / "0.wav", noise, 16_000)
        found.append(prepare(tmp_path / name, tmp_path / "cache", labelled=False).segment(0))
    assert not np.array_equal(*found)


def test_a_second_call_reads_the_cache(tmp_path: Path, loaded: list[str]) -> None:
    put(tmp_path / "corpus/ann/1.wav", tone(1))
    first = prepare(tmp_path / "corpus", tmp_path / "cache")
    again = prepare(tmp_path / "corpus", tmp_path / "cache")
    assert loaded == ["1.wav"]
    assert again.folder == first.folder
    np.testing.assert_array_equal(again.segment(0), first.segment(0))
    assert sorted(path.name for path in first.folder.iterdir()) == ["index.json", "speech.i16"]


@pytest.mark.parametrize("change", ["longer", "added", "removed", "renamed"])
def test_a_changed_corpus_is_read_again(tmp_path: Path, loaded: list[str], change: str) -> None:
    root = tmp_path / "corpus"
    one, two = put(root / "ann/1.wav", tone(1)), put(root / "ann/2.wav", tone(1))
    before = prepare(root, tmp_path / "cache")
    if change == "longer":
        put(one, tone(2))
    elif change == "added":
        put(root / "bo/1.wav", tone(1))
    elif change == "removed":
        two.unlink()
    else:
        one.rename(root / "ann/3.wav")
    after = prepare(root, tmp_path / "cache")
    assert after.folder != before.folder
    assert (after.utterances, after.seconds) != (before.utterances, before.seconds)


def test_the_contents_of_a_folder_change_with_any_sound(tmp_path: Path) -> None:
    folder = tmp_path / "noises"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"one")
    before = data.contents(folder)
    assert before == data.contents(folder)
    (folder / "a.wav").write_bytes(b"two")
    assert data.contents(folder) != before


def test_an_interrupted_build_starts_again(tmp_path: Path, loaded: list[str]) -> None:
    for name in ("1", "2"):
        put(tmp_path / f"corpus/ann/{name}.wav", tone(1))

    def kill(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "corpus", tmp_path / "cache", progress=kill)
    assert len(prepare(tmp_path / "corpus", tmp_path / "cache")) == 2


def reasons(speech: SpeechSet) -> dict[str, str]:
    return dict(speech.skipped)


def test_what_cannot_be_used_is_listed_and_stops_nothing(tmp_path: Path, loaded: list[str]) -> None:
    root = tmp_path / "corpus"
    put(root / "ann/good.wav", tone(1))
    put(root / "ann/quiet.wav", 1e-4 * tone(1))
    put(root / "ann/short.wav", tone(0.7))
    (root / "ann/empty.wav").touch()
    (root / "ann/text.wav").write_text("this is no sound" * 10)
    vanishing = put(root / "bo/gone.wav", tone(1))

    def progress(done: int, total: int) -> None:
        vanishing.unlink(missing_ok=True)

    speech = prepare(root, tmp_path / "cache", progress=progress)
    assert speech.utterances == ("ann/good.wav",)
    found = reasons(speech)
    assert found.keys() == {f"ann/{name}.wav" for name in ("quiet", "short", "empty", "text")} | {
        "bo/gone.wav"
    }
    assert "no speech" in found["ann/quiet.wav"]
    assert "0.70 s" in found["ann/short.wav"]
    assert "empty" in found["ann/empty.wav"]
    assert "cannot be decoded" in found["ann/text.wav"]
    assert "no such file" in found["bo/gone.wav"]


def test_a_corpus_without_speech_is_an_error(tmp_path: Path, loaded: list[str]) -> None:
    put(tmp_path / "corpus/ann/quiet.wav", 1e-4 * tone(1))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"no recording holds usable speech.*quiet.wav"):
            prepare(tmp_path / "corpus", tmp_path / "cache")
    assert loaded == ["quiet.wav", "quiet.wav"]


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: no such folder"):
        find_utterances(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"holds no recordings \(.flac"):
        find_utterances(tmp_path)


def test_real_speech_is_kept_by_several_processes_as_by_one(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "corpus/dev/vctk").rglob("*.opus"))[:4]
    for number, path in enumerate(files):
        target = tmp_path / f"corpus/s{number}/1.opus"
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    put(tmp_path / "corpus/s0/tone.wav", tone(2))
    one = prepare(tmp_path / "corpus", tmp_path / "one")
    two = prepare(tmp_path / "corpus", tmp_path / "two", workers=2)
    assert set(one.speakers) == {"s0", "s1", "s2", "s3"}
    assert reasons(one).keys() == {"s0/tone.wav"}
    np.testing.assert_array_equal(one.samples, two.samples)
    assert one.utterances == two.utterances
