"""advgan-infer and advgan-generate: what they write, measure, refuse, and go on with."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from advgan import demo, generate, infer, manifest
from advgan.conversion import converter, recording, session
from advgan.conversion.converter import Converter, Copier, PerturbingConverter
from advgan.conversion.recording import Utterance, load_utterance
from advgan.judging import quality
from advgan.judging.judge import Judge
from advgan.judging.quality import pitch_correlation
from advgan.judging.words import Transcript
from advgan.networks import checkpoint
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.perturber import Perturber, PerturberConfig
from advgan.victim.loss import GuardLoss
from advgan.victim.pcm import save_wav, tagged
from speakerguard.cli.app import app
from speakerguard.errors import AudioError, CheckpointError, ConfigError, UsageError
from speakerguard.sound import audio
from speakerguard.sound import speech as speech_room
from speakerguard.sound.audio import AudioSource, Recording, open_recording, read
from speakerguard.sound.speech import TIGHT, load_speech
from speakerguard.sound.voice import pitch_track
from speakerguard.verification import countermeasure

CONFIG = GeneratorConfig(width=8, blocks=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that copies nothing well; enough for everything around it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("generator")
    checkpoint.save("generator", Generator(CONFIG), folder / "model.safetensors")
    return folder


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that gives the source back, so that results are speech."""
    monkeypatch.setattr(
        Generator, "convert", lambda _, source, voice: source + 0 * voice.voice[0].mean.sum()
    )


@pytest.fixture
def clips(speech: dict[str, list[Path]]) -> tuple[Path, Path]:
    """Real clips of two speakers."""
    first, second = list(speech.values())[:2]
    return first[0], second[0]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pictures, the DNSMOS and the words that other tests look at."""
    monkeypatch.setattr(session, "plot_conversion", lambda *_: None)
    monkeypatch.setattr(quality, "dnsmos", lambda _: None)
    monkeypatch.setattr(session, "transcribe", lambda _: None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A recogniser that is sure and errs once in the file made; how much it was given to hear."""
    lengths: list[int] = []

    def transcribe(waveform: np.ndarray) -> Transcript:
        lengths.append(len(waveform))
        words = ("please", "call", "stella") if len(lengths) % 2 else ("please", "fall", "stella")
        return Transcript(words, -1.0)

    monkeypatch.setattr(session, "transcribe", transcribe)
    return lengths


def options(tiny_model: Path, weights: Path, *more: object) -> list[str]:
    base = ["-l", weights, "--vocoder", "griffin-lim", "--steps", 0, "--guard", tiny_model, *more]
    return [str(part) for part in base]


@pytest.mark.usefixtures("copying")
def test_one_conversion(
    tiny_model: Path, weights: Path, clips: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], told: list[int],
) -> None:  # fmt: skip
    source, target = clips
    with pytest.raises(SystemExit) as caught:
        infer.main(["-s", str(source), "-t", str(target), "-o", str(tmp_path),
                    *options(tiny_model, weights)])  # fmt: skip
    assert caught.value.code == 0
    stem = tmp_path / f"{source.stem}_to_{target.stem}"
    record = json.loads(stem.with_suffix(".json").read_text())
    wav, picture = stem.with_suffix(".wav"), stem.with_suffix(".png")
    info = soundfile.info(wav)
    assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert tagged(wav)
    asked = Judge(str(tiny_model))
    again = asked.opinion(asked.profile([target]), wav)
    assert record["after"]["score"] == pytest.approx(again.score, abs=1e-6)
    assert record["after"]["accepted"] == again.accepted
    assert record["before"]["score"] == pytest.approx(
        asked.opinion(asked.profile([target]), source).score, abs=1e-6
    )
    assert record["quality"]["stoi_to_source"] > 0.7
    printed = capsys.readouterr().out
    assert f"{again.score:+.3f} after" in printed
    assert ("ACCEPT" if again.accepted else "reject") in printed
    assert (record["detector_llr"] is None) == (not checkpoint.shipped("discriminator"))
    llr = record["detector_llr"]
    said = "no discriminator, or no speech" if llr is None else f"LLR {llr:+.2f} for real speech"
    assert f"  detector  {said}\n" in printed
    assert record["steps"] == 0
    assert told == [len(read(source)), len(read(wav))]
    assert record["quality"]["word_error_rate"] == pytest.approx(1 / 3)
    assert record["words"]["made"] == "please fall stella"
    assert "33 % wrong of the 3 that were heard in the source: please fall stella" in printed


@pytest.mark.usefixtures("copying", "told")
def test_each_recording_is_decoded_once(
    tiny_model: Path, weights: Path, clips: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    opened: list[object] = []

    def counting(source: AudioSource) -> Recording:
        opened.append(source)
        return open_recording(source)

    for module in (audio, speech_room, recording):
        monkeypatch.setattr(module, "open_recording", counting)
    settings = session.Settings(load=str(weights), vocoder="griffin-lim", guard=str(tiny_model))
    session.Session(settings).attack(*clips, tmp_path / "x")
    assert sorted(map(str, opened)) == sorted(map(str, [*clips, tmp_path / "x.wav"]))


@pytest.mark.usefixtures("copying", "quick")
def test_folders_seglen_and_no_tag(
    tiny_model: Path, weights: Path, speech: dict[str, list[Path]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for side, name in zip(("sources", "targets"), speech, strict=False):
        (tmp_path / side).mkdir()
        for file in speech[name][:2]:
            shutil.copy(file, tmp_path / side)
    (tmp_path / "sources" / "silent.wav").write_bytes(b"")
    soundfile.write(tmp_path / "sources" / "silent.wav", np.zeros(16_000), 16_000)
    parsed = infer.parse(["-s", str(tmp_path / "sources"), "-t", str(tmp_path / "targets"),
                          "-o", str(tmp_path / "out"), "--seglen", "80", "--no-tag",
                          *options(tiny_model, weights)])  # fmt: skip
    assert infer.run(parsed) == 2  # the silent one, towards both targets
    assert capsys.readouterr().err.count("the recording is silent") == 2
    made = sorted((tmp_path / "out").glob("*.wav"))
    assert len(made) == 4
    assert not any(tagged(path) for path in made)
    assert all(soundfile.info(path).duration == pytest.approx(0.93, abs=0.02) for path in made)
    before = [json.loads(path.with_suffix(".json").read_text())["before"]["score"] for path in made]
    assert len(set(before)) == 4  # of another stretch in each pair, not of the whole source


def test_missing_weights_are_an_error_never_random_ones(
    tiny_model: Path, clips: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no generator is shipped.*advgan-train vc"):
        Converter()
    with pytest.raises(CheckpointError, match="no perturber"):
        PerturbingConverter(guard=str(tiny_model))
    source, target = map(str, clips)
    with pytest.raises(SystemExit) as caught:
        infer.main(["-s", source, "-t", target, "-o", str(tmp_path), "--guard", str(tiny_model)])
    assert caught.value.code == 2
    assert "no generator is shipped" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.wav"))


@pytest.mark.usefixtures("quick")
def test_the_source_alone_can_be_copied_without_a_generator(
    tiny_model: Path, clips: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-s", str(clips[0]), "-t", str(clips[1]), "-o", str(tmp_path), "--mode", "copy",
               "--vocoder", "griffin-lim", "--guard", str(tiny_model), "--no-words"]  # fmt: skip
    assert infer.run(infer.parse(command)) == 0
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert (record["mode"], record["vocoder"]) == ("copy", "griffin-lim")
    assert record["quality"]["stoi_to_source"] > 0.8
    assert record["words"] is None
    assert "no generator and griffin-lim" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "option", "value"),
    [("copy", "--load", "x"), ("perturb", "--vocoder", "x"), ("copy", "--eps", "0.01"),
     ("perturb", "--steps", "3")],
)  # fmt: skip
def test_options_that_a_mode_would_ignore_are_refused(mode: str, option: str, value: str) -> None:
    parsed = infer.parse(["-s", "a.wav", "-t", "b.wav", "--mode", mode, option, value])
    with pytest.raises(UsageError, match=rf"{option} means nothing with --mode {mode}"):
        infer.settings_of(parsed)


def test_voices_are_fitted_one_by_one_but_not_in_sets() -> None:
    one = infer.parse(["-s", "a.wav", "-t", "b.wav"])
    several = generate.parse(["--corpus", "x", "-o", "y"])
    assert infer.settings_of(one).steps == infer.STEPS
    assert infer.settings_of(several).steps == 0
    copy = infer.parse(["-s", "a.wav", "-t", "b.wav", "--mode", "copy"])
    assert infer.settings_of(copy).steps is None


def test_what_converts_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a voice is fitted the plain generator does, else the one trained against the guard."""
    shipped = {"again-vc", "adversarial"}
    monkeypatch.setattr(checkpoint, "shipped", lambda name: name in shipped)
    assert [converter.default_generator(steps) for steps in (0, 5)] == ["adversarial", "again-vc"]
    shipped.remove("again-vc")
    assert converter.default_generator(5) == "adversarial"


@pytest.mark.parametrize("kind", ["short", "silent", "noise", "text"])
def test_recordings_that_cannot_be_converted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.wav"
    if kind == "text":
        path.write_text("hello")
    else:
        count = 500 if kind == "short" else 32_000
        noise = np.random.default_rng(0).normal(0, 0.05, count)
        soundfile.write(path, noise * (kind != "silent"), 16_000)
    with pytest.raises(AudioError, match=r"bad\.wav"):
        load_utterance(path)


def test_configurations_must_agree_with_the_weights(
    tiny_model: Path, weights: Path, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    ours, theirs, dsp = (tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml"))
    ours.write_text("model: {width: 8, blocks: 2}\n")
    encoder = "{c_in: 80, c_h: 256, c_out: 4, n_conv_blocks: 6, subsample: [1]}"
    activation = "{act: sigmoid, params: {alpha: 0.1}}"
    theirs.write_text(
        "build: {model_name: again, model: {params: {encoder_params: "
        f"{encoder}, activation_params: {activation}}}}}}}\n"
    )
    dsp.write_text("feat: {mel: {n_mels: 80, hop_length: 200}}\n")
    session.Session(session.Settings(load=str(weights), config=ours, guard=str(tiny_model)))
    for wrong, message in (
        ("modle: {width: 8}", "modle is no key of a generator"),
        ("model: wide", "model: Input should be a valid dict"),
        ("model: {blocks: 2}", "width is 256, the weights have 8"),
    ):
        ours.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            session.Session(session.Settings(load=str(weights), config=ours, guard=str(tiny_model)))
    with pytest.raises(ConfigError, match=r"b\.yaml: width is 256, the weights have 8"):
        session.Session(session.Settings(load=str(weights), config=theirs, guard=str(tiny_model)))
    with pytest.raises(ConfigError, match=r"c\.yaml: hop_length is 200, .* has 256"):
        session.Session(session.Settings(load=str(weights), dsp_config=dsp, guard=str(tiny_model)))


def test_a_perturbation_stays_within_its_bound_in_the_saved_file(
    tiny_model: Path, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Perturber(PerturberConfig(width=8, blocks=2))
    about = {"guard": GuardLoss(tiny_model).fingerprint}
    checkpoint.save("perturber", network, tmp_path / "p" / "model.safetensors", about=about)
    perturbing = PerturbingConverter(tmp_path / "p", str(tiny_model), epsilon=0.01)
    source, target = load_utterance(clips[0]), load_utterance(clips[1], speech_only=True)
    save_wav(tmp_path / "x.wav", perturbing.convert(source, target), perturbing.rate)
    change = np.abs(read(tmp_path / "x.wav") - source.waveform)
    assert 0 < change.max() <= 0.01 + 2 / 32_768
    with pytest.raises(UsageError, match=r"--eps is 0\.5"):
        PerturbingConverter(tmp_path / "p", str(tiny_model), epsilon=0.5)
    checkpoint.save("perturber", network, tmp_path / "q" / "model.safetensors", about={})
    with pytest.raises(CheckpointError, match="was trained against the guard None"):
        PerturbingConverter(tmp_path / "q", str(tiny_model))


@pytest.fixture(scope="module")
def corpus(speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voices")
    for name, files in speech.items():
        (root / name).mkdir()
        for file in files[:2]:
            shutil.copy(file, root / name)
    return root


def test_pairs_are_drawn_by_seed_and_never_within_a_speaker(corpus: Path, tmp_path: Path) -> None:
    pairs = generate.choose(corpus, 12, seed=1)
    assert pairs == generate.choose(corpus, 12, seed=1) != generate.choose(corpus, 12, seed=2)
    for pair in pairs:
        speaker = Path(pair.target).parent
        (enrol,) = pair.enrol
        assert Path(pair.source).parent != speaker == Path(enrol).parent
        assert pair.target != enrol
    targets = [str(Path(pair.target).parent) for pair in pairs]
    assert {targets.count(name) for name in set(targets)} == {3}
    count = sum(p.is_file() for p in corpus.rglob("*"))
    most = count * (count - count // 4)  # of four speakers
    every = generate.choose(corpus, most, seed=1)
    assert every[:12] == pairs
    assert len({(pair.source, pair.target) for pair in every}) == most
    with pytest.raises(UsageError, match=f"only {most} pairs"):
        generate.choose(corpus, most + 1, seed=1)
    (tmp_path / "only").mkdir()
    shutil.copy(next(p for p in corpus.rglob("*") if p.is_file()), tmp_path / "only")
    with pytest.raises(UsageError, match="recordings of 1 speaker"):
        generate.choose(tmp_path, 3, 0)


@pytest.mark.usefixtures("copying", "quick")
def test_a_killed_set_goes_on_and_lists_failures(
    tiny_model: Path, weights: Path, corpus: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "made"
    command = ["--corpus", str(corpus), "-n", "3", "-o", str(out), *options(tiny_model, weights)]
    attack = session.Session.attack
    count = 0

    def dying(self: session.Session, *args: Any, **more: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        if count == 2:
            raise AudioError("x.wav: the recording is silent.")
        if count == 3:
            raise KeyboardInterrupt
        return attack(self, *args, **more)

    monkeypatch.setattr(session.Session, "attack", dying)
    with pytest.raises(SystemExit) as caught:
        generate.main(command)
    assert caught.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    with (out / manifest.JOURNAL).open("a") as journal:
        journal.write('{"id": "00')  # as a kill in the middle of a line leaves it
    before = (out / "000000.wav").stat().st_mtime_ns
    generate.main(command)
    rows = [line.split("\t") for line in (out / "manifest.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["id", "000000", "000001", "000002"]
    assert dict(zip(*rows[:2], strict=True))["vocoder"] == "griffin-lim"
    assert rows[2][-1] == "x.wav: the recording is silent."
    assert (out / "000000.wav").stat().st_mtime_ns == before
    summary = json.loads((out / "manifest.json").read_text())
    assert (summary["converted"], summary["failed"]) == (2, 1)
    assert manifest.read_manifest(out) == [out / "000000.wav", out / "000002.wav"]
    with pytest.raises(UsageError, match="other settings"):
        generate.run(generate.parse([*command, "--seglen", "64"]))
    (out / "000000.wav").write_bytes(b"")  # as a power cut leaves it
    generate.run(generate.parse([*command, "-n", "4"]))
    found = json.loads((out / "manifest.json").read_text())["rows"]
    assert found[:3] == summary["rows"]
    generate.run(generate.parse([*command, "-n", "1"]))  # what was made before stays listed
    assert json.loads((out / "manifest.json").read_text())["rows"] == found
    for row in (found[0], found[3]):
        assert sha256((out / row["output"]).read_bytes()).hexdigest() == row["sha256"]
    listed = tmp_path / "pairs.tsv"
    listed.write_text("\t".join(found[1][key] for key in ("source", "target", "enrol")) + "\n")
    with pytest.raises(UsageError, match="other pairs"):
        generate.run(generate.parse([*command, "--pairs", str(listed)]))


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
def test_what_can_be_read_but_once_is_no_recording(tmp_path: Path) -> None:
    """A pipe would be waited for for ever at the second reading."""
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path(os.devnull)):
        with pytest.raises(UsageError, match="is a pipe or a device"):
            infer.recordings(path)
    with pytest.raises(UsageError, match="holds no recordings"):
        infer.recordings(tmp_path)


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        save_wav(tmp_path / "file" / "x.wav", np.zeros(10, np.float32), 16_000)
    with pytest.raises(UsageError, match="cannot be written"):
        manifest.append(tmp_path / "file", {"id": "0"})


@pytest.mark.usefixtures("copying")
def test_what_is_enrolled_may_be_another_recording(
    tiny_model: Path, weights: Path, clips: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], told: list[int],
) -> None:  # fmt: skip
    source, target = clips
    common = ["-s", str(source), "-t", str(target), *options(tiny_model, weights)]
    shown, records = [], []
    for folder, enrol in (("own", []), ("other", ["--enrol", str(source)])):
        with pytest.raises(SystemExit):
            infer.main([*common, "-o", str(tmp_path / folder), *enrol])
        shown.append(capsys.readouterr().out)
        name = f"{source.stem}_to_{target.stem}.json"
        records.append(json.loads((tmp_path / folder / name).read_text()))
    assert [record["enrol"] for record in records] == [[str(target)], [str(source)]]
    assert ["a profile of the recording imitated" in text for text in shown] == [True, False]
    assert records[1]["before"]["score"] > 0.99  # the source is what is enrolled
    with pytest.raises(SystemExit) as caught:
        infer.main(["-s", str(source), "-t", str(target.parent.parent), "--enrol", str(tmp_path),
                    *options(tiny_model, weights)])  # fmt: skip
    assert caught.value.code == 2


def test_conversions_are_no_louder_than_a_file_holds() -> None:
    waveform = recording.limited(np.array([3.0, -1.5], np.float32))
    assert np.abs(waveform).max() == pytest.approx(recording.PEAK)


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("speaker", [0, 1])
def test_long_recordings_are_converted_in_pieces_without_a_seam(
    weights: Path, real_speech: dict[str, list[Path]], speaker: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = Converter(weights, "griffin-lim")
    source = load_utterance(list(real_speech.values())[speaker][0])
    whole = made.convert(source, source)
    monkeypatch.setattr(recording, "PIECE_SECONDS", 0.8)
    pieces = recording.cut_to_pieces(source)
    assert len(pieces) > 2
    parts = made.convert(source, source)
    assert abs(len(parts) - len(whole)) <= 256
    # Envelopes, since the phases that Griffin-Lim finds let a period match the next one as well.
    middle = slice(len(whole) // 2, len(whole) // 2 + 11_025)
    window = np.hanning(512)
    loud = [np.convolve(np.abs(made_[middle]), window, "same") for made_ in (parts, whole)]
    lags = np.correlate(loud[0] - loud[0].mean(), loud[1] - loud[1].mean(), "full")
    assert abs(int(lags.argmax()) - 11_024) <= 64  # a quarter of a frame; a slip is a whole one
    assert np.abs(np.diff(parts)).max() < 1.5 * np.abs(np.diff(whole)).max()


def test_pitch_follows_the_voice(clips: tuple[Path, Path]) -> None:
    waveform = read(clips[0])
    assert pitch_correlation(waveform, 0.3 * waveform) == pytest.approx(1, abs=1e-3)
    assert pitch_correlation(waveform, np.zeros_like(waveform)) is None
    found = pitch_track(load_speech(clips[0]).within(TIGHT))
    assert 0.2 < np.isfinite(found).mean() < 1
    assert 60 < np.nanmedian(found) < 420
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert np.isfinite(pitch_track(noise)).mean() < 0.2


@pytest.mark.usefixtures("copying")
def test_copies_by_griffin_lim_are_still_the_speaker(
    tiny_model: Path, weights: Path, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    converter_, copier = Converter(weights, "griffin-lim"), Copier("griffin-lim")
    source = load_utterance(clips[0])
    save_wav(tmp_path / "copy.wav", copier.convert(source), copier.rate)
    asked = Judge(str(tiny_model))
    score = asked.opinion(asked.profile([clips[0]]), tmp_path / "copy.wav").score
    assert score is not None
    assert score > 0.8
    half = Utterance(source.name, source.waveform[: len(source.waveform) // 2])
    assert converter_.convert(half, source).shape < converter_.convert(source, half).shape


def test_verify_can_demand_that_speech_is_real(
    tiny_model: Path, clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(tmp_path / "p.db"))
    cli = CliRunner()
    voice = str(clips[0])
    model = ["--model", str(tiny_model)]
    assert cli.invoke(app, ["enroll", "ann", voice, *model]).exit_code == 0
    ask = ["verify", "ann", voice, "--countermeasure", "discriminator", *model]
    for llr, code in ((2.5, 0), (-2.5, 1)):
        detector = SimpleNamespace(llr=lambda _, llr=llr: llr)
        monkeypatch.setattr(countermeasure, "load", lambda _, detector=detector: detector)
        answer = cli.invoke(app, [*ask, "--json"])
        assert answer.exit_code == code
        assert json.loads(answer.stdout)["real_speech_llr"] == llr
        assert json.loads(answer.stdout)["decision"] == ("accept" if code == 0 else "reject")
        named = cli.invoke(app, ["identify", *ask[2:], "--json"])
        assert named.exit_code == code
        found = json.loads(named.stdout)
        assert found["real_speech_llr"] == llr
        assert (found["speaker"], "made speech" in found["reason"]) == (
            ("ann", False) if code == 0 else (None, True)
        )
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no countermeasure 'x'; installed: "):
        countermeasure.load("x")


@pytest.mark.usefixtures("copying", "quick")
def test_the_demo_converts_only_with_shipped_weights(
    tiny_model: Path, weights: Path, corpus: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(demo, "OUT", tmp_path / "out")
    monkeypatch.setattr(demo, "STEPS", 1)
    demo.main()
    assert "no attack in this demo: no generator is shipped" in capsys.readouterr().out
    shutil.copytree(tiny_model, tmp_path / "guard")
    shutil.copytree(weights, tmp_path / "again-vc")
    recordings = {folder.name: sorted(folder.iterdir()) for folder in sorted(corpus.iterdir())}
    monkeypatch.setattr(demo, "find_data", lambda: (corpus, "real speech"))
    monkeypatch.setattr(demo, "choose", lambda _: recordings)
    demo.main()
    assert "one speaker's words in another's voice" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert record["enrol"] != [record["target"]]
    assert Path(record["enrol"][0]).parent == Path(record["target"]).parent
