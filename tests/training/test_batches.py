"""What a training step sees."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.training import SPEAKERS, config, make_corpus, quiet, take_buzzes_for_speech

from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.training import batches
from speakerguard.training.batches import BatchSampler
from speakerguard.training.data import SpeechSet
from speakerguard.training.guard_task import GuardTask


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_corpus(tmp_path_factory.mktemp("corpus"))
    shutil.copytree(made / "dev", made / "more")
    return made


@pytest.fixture(autouse=True)
def _buzzes_are_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    take_buzzes_for_speech(monkeypatch)


def test_a_batch_depends_on_seed_and_step_alone(corpus: Path, tmp_path: Path) -> None:
    batches = BatchSampler(config(corpus, tmp_path, data={"speeds": [0.9, 1.0]}), report=quiet)
    waveforms, labels, targets, sources = batches[7]
    np.random.seed(5)  # noqa: NPY002
    for one, other in zip(batches[7], (waveforms, labels, targets, sources), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert not torch.equal(batches[8][0][:, :1_000], waveforms[:, :1_000])
    assert waveforms.dtype == torch.float32
    assert 1.0 * SAMPLE_RATE <= waveforms.shape[1] <= 1.2 * SAMPLE_RATE
    assert batches.voices == 8
    assert sorted(labels.bincount(minlength=8).tolist()) == [0, 0, 0, 0, 2, 2, 2, 2]
    assert targets.shape == (8, 0)
    assert sources.shape == (0, 0)
    other_rank = BatchSampler(config(corpus, tmp_path), rank=1, report=quiet)
    assert not torch.equal(other_rank[7][0][:, :1_000], waveforms[:, :1_000])


def test_every_row_has_the_target_of_its_segment_and_speed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = (0.9, 1.0, 1.1)

    def teach(speech: SpeechSet, speed: float, *_: object) -> npt.NDArray[np.float16]:
        """A corner of a cube for each set, speaker and speed."""
        rows = np.zeros((len(speech), 192), np.float16)
        for row, speaker in zip(rows, speech.speakers, strict=True):
            number = SPEAKERS if speaker is None else int(speaker[1:])
            row[number * len(speeds) + speeds.index(speed)] = 1
        return rows

    monkeypatch.setattr(batches, "teach", teach)
    run = config(
        corpus,
        tmp_path,
        model={"embedding": 192},
        data={"speeds": speeds, "unlabelled": corpus / "more"},
        loss={"distil_cosine": 1},
        unlabelled_share=0.5,
    )
    sampler = BatchSampler(run, report=quiet)
    waveforms, labels, targets, _ = sampler[3]
    assert len(waveforms) == 16
    assert (labels[8:] == -1).all()
    corners = targets.argmax(dim=1)
    assert corners[:8].tolist() == labels[:8].tolist()
    assert (corners[8:] >= SPEAKERS * len(speeds)).all()
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(16), atol=1e-3, rtol=0)
    task = GuardTask(run, quiet)
    classes = task.softmax.weight.argmax(dim=1)  # they start where the teacher sees them
    assert classes.tolist() == list(range(sampler.voices))
    losses = task.learn_from(sampler[3], 0)
    assert losses.keys() == {"loss", "softmax", "distil_cosine"}
    assert losses["loss"] == pytest.approx(losses["softmax"] + losses["distil_cosine"], rel=1e-5)


def test_several_folders_are_one_set_of_voices(corpus: Path, tmp_path: Path) -> None:
    one = config(corpus, tmp_path, data={"train": corpus / "train"})
    listed = config(corpus, tmp_path, data={"train": [corpus / "train"]})
    for first, second in zip(
        BatchSampler(one, report=quiet)[3], BatchSampler(listed, report=quiet)[3], strict=True
    ):
        torch.testing.assert_close(first, second, atol=0, rtol=0)
    both = config(corpus, tmp_path, data={"train": [corpus / "train", corpus / "more"]}, voices=8)
    sampler = BatchSampler(both, report=quiet)
    assert sampler.voices == 2 * SPEAKERS  # the same name in another folder is another voice
    batch = sampler[0]
    assert sorted(batch.labels.tolist()) == sorted([*range(8)] * 2)
    heard = {
        str(place[0]) + sampler.sets[place[0]].utterances[place[1]].split("/")[0]
        for places in sampler.segments
        for place in places
    }
    assert len(heard) == sampler.voices
    assert all(len({place[0] for place in places}) == 1 for places in sampler.segments)
