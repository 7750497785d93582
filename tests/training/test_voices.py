"""New voices from a corpus of real speech, judged by a stand-in for the teacher."""

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from speakerguard.cli.app import app
from speakerguard.errors import AudioError, UsageError
from speakerguard.journal import Journal
from speakerguard.sound.audio import read
from speakerguard.training import voices
from speakerguard.training.data import SpeechSet, prepare
from speakerguard.training.voices import VoicePlan, make_voices, summary


class Ear:
    """Hears the shape of the mean spectrum in 40 bands: enough to tell a moved voice."""

    def __call__(self, waveforms: Tensor) -> Tensor:
        power = torch.stft(waveforms, 512, window=torch.hann_window(512), return_complex=True)
        bands = (power.abs().square().mean(dim=2) + 1e-6)[:, :240].log().view(-1, 40, 6).mean(dim=2)
        bands = bands - bands.mean(dim=1, keepdim=True)
        return torch.nn.functional.normalize(bands, dim=1)


def teach(speech: SpeechSet, *_: object) -> npt.NDArray[np.float16]:
    clips = [torch.from_numpy(speech.segment(index))[None] for index in range(len(speech))]
    return np.concatenate([Ear()(clip).numpy() for clip in clips]).astype(np.float16)


@pytest.fixture(autouse=True)
def _ear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "CamPlusPlus", Ear)
    monkeypatch.setattr(voices, "teach", teach)
    monkeypatch.setattr(voices, "default_workers", lambda: 1)


@pytest.fixture(scope="module")
def corpus(speech: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers with three clips each."""
    root = tmp_path_factory.mktemp("voices")
    for name in sorted(speech)[:3]:
        (root / "train" / name).mkdir(parents=True)
        for path in speech[name][:3]:
            (root / "train" / name / path.name).write_bytes(path.read_bytes())
    return root


def make(corpus: Path, out: Path, **plan: object) -> list[dict[str, object]]:
    asked = {"kinds": ("formant", "mixed"), "tries": 1, "clips": 3, "apart": 1.1, "coherent": -1.0}
    settings = VoicePlan(**(asked | plan))  # type: ignore[arg-type]
    return make_voices(corpus / "train", out, settings, corpus / "cache", lambda _: None)


def files(folder: Path) -> dict[str, bytes]:
    """What each file holds: samples, since a stream of Opus has a random number of its own."""
    return {
        path.relative_to(folder).as_posix(): read(path).tobytes()
        if path.suffix == ".opus"
        else path.read_bytes()
        for path in folder.rglob("*.*")
    }


def test_what_cannot_be_used_is_told_or_ends_it(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "train"
    shutil.copytree(corpus / "train", root)
    (next(root.iterdir()) / "junk.wav").write_text("junk")
    plan = VoicePlan(kinds=("formant",), tries=1, clips=3, apart=1.1, coherent=-1.0)
    said: list[str] = []
    with pytest.raises(AudioError, match=r"1 recordings of .*cannot be used:\n.*junk\.wav"):
        make_voices(root, tmp_path / "new", plan, tmp_path / "cache", said.append, skip=False)
    assert make_voices(root, tmp_path / "new", plan, tmp_path / "cache", said.append)
    assert any("left out" in line and "junk.wav" in line for line in said)


def test_what_is_kept_is_a_corpus_with_a_manifest(corpus: Path, tmp_path: Path) -> None:
    records = make(corpus, tmp_path / "new")
    assert [r["kind"] for r in records] == ["formant", "mixed"] * 3
    assert all(r["kept"] for r in records)
    speech = prepare(tmp_path / "new", tmp_path / "cache")
    assert sorted(set(map(str, speech.speakers))) == sorted(str(r["name"]) for r in records)
    header, *lines = (tmp_path / "new/manifest.tsv").read_text().splitlines()
    assert len(lines) == 3 * 6
    for line in lines:
        row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        assert len(read(tmp_path / "new" / row["utterance"])) > 8_000
        assert (corpus / "train" / row["origin"]).is_dir()
        assert json.loads(row["how"]).keys() in ({"pitch", "formants"}, {"with", "share"})
        assert -1 <= float(row["to_origin"]) <= float(row["cosine"]) + 1e-6
    table = summary(records)
    assert "| formant | 3 | 3 |" in table
    assert "| mixed | 3 | 3 |" in table


def test_only_voices_apart_and_coherent_are_kept(corpus: Path, tmp_path: Path) -> None:
    every = make(corpus, tmp_path / "all")
    limit = sorted(float(str(r["cosine"])) for r in every)[2]
    some = make(corpus, tmp_path / "some", apart=limit)
    assert 0 < sum(bool(r["kept"]) for r in some) < len(some)
    for record in some:
        assert record["kept"] == (float(str(record["cosine"])) < limit)
        assert (tmp_path / "some" / str(record["name"])).is_dir() == record["kept"]
    named = {str(r["name"]) for r in some if r["kept"]} | {
        path.name for path in (corpus / "train").iterdir()
    }
    assert {str(r["nearest"]) for r in some} <= named  # refused ones are nobody's neighbours
    assert not any(r["kept"] for r in make(corpus, tmp_path / "none", coherent=1.1))


def test_a_killed_run_ends_where_an_unbroken_one_does(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(corpus, tmp_path / "whole", apart=0.98)
    judged = []
    append = Journal.append

    def killed(journal: Journal, row: dict[str, object]) -> None:
        judged.append(1)
        if len(judged) == 4:
            raise KeyboardInterrupt
        append(journal, row)

    monkeypatch.setattr(Journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        make(corpus, tmp_path / "broken", apart=0.98)
    with (tmp_path / "broken/journal.jsonl").open("a") as journal:
        journal.write('{"name": "formant/cut o')
    make(corpus, tmp_path / "broken", apart=0.98)
    assert len(judged) == 4 + 3
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    with pytest.raises(UsageError, match=r"journal.jsonl: was begun with other settings"):
        make(corpus, tmp_path / "broken", apart=0.98, seed=1)


def test_synthesisers_have_no_origin(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    first = make(corpus, tmp_path / "one", kinds=("synthetic",), speakers=2, clips=2)
    assert [r["origin"] for r in first] == ["", ""]
    assert all(r["to_origin"] is None for r in first)
    make(corpus, tmp_path / "two", kinds=("synthetic",), speakers=2, clips=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_what_cannot_be_made_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'formants' is no kind of voice; there are formant, "):
        make(corpus, tmp_path, kinds=("formants",))
    with pytest.raises(UsageError, match="2 clips or more"):
        make(corpus, tmp_path, clips=1)


def test_the_command_prints_what_was_kept(corpus: Path, tmp_path: Path) -> None:
    options = ["--corpus", corpus / "train", "--out", tmp_path / "new", "--cache", corpus / "cache"]
    more = ["--kind", "formant", "--speakers", "1", "--tries", "1", "--clips", "2", "--apart", "2"]
    done = CliRunner().invoke(app, ["voices", *map(str, options), *more])
    assert done.exit_code == 0, done.output
    assert "| formant | 1 | 1 |" in done.output
    assert f"1 voices in {tmp_path / 'new'}, listed in" in done.output.replace("\n", "")
