"""Lessons by a stand-in for the teacher, on voices made of buzzes."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import fftconvolve
from support.training import buzz, make_corpus, quiet, take_buzzes_for_speech, whole
from torch import Tensor

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network import checkpoint
from speakerguard.sound.audio import Waveform
from speakerguard.train import loop
from speakerguard.training import data, devset, lessons, teacher
from speakerguard.training import loop as loops
from speakerguard.training.config import LessonConfig
from speakerguard.training.lessons import CROP, FRAMES, RECORDED, Lessons
from speakerguard.training.student_task import StudentTask
from speakerguard.training.teacher import FRAME, Listener, TeacherOutput


class Ear:
    """In place of the teacher: spectra of each frame, and their mean."""

    network = type("Network", (), {"dimension": 192})

    def __call__(self, waveforms: Tensor) -> TeacherOutput:
        missing = -waveforms.shape[1] % FRAME
        cut = torch.nn.functional.pad(waveforms, (0, missing)).unflatten(1, (-1, FRAME))
        spectra = torch.fft.rfft(cut).abs()[:, :, 1:1281].log1p()
        embeddings = torch.nn.functional.normalize(spectra.mean(dim=1)[:, :192], dim=1)
        return TeacherOutput(embeddings, spectra[:, :, :512], spectra[:, :, 512:])


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    take_buzzes_for_speech(monkeypatch)
    monkeypatch.setattr(loops, "draw", lambda *_: None)
    monkeypatch.setattr(lessons, "Listener", Ear)
    monkeypatch.setattr(teacher, "Listener", Ear)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_corpus(tmp_path_factory.mktemp("corpus"))
    for speaker, number in itertools.product(range(4), range(3)):
        path = root / "train" / f"s{speaker}" / f"{number}.wav"
        soundfile.write(path, buzz(speaker, number, 3.0), 16_000)
    return root


def config(corpus: Path, out: Path, **more: Any) -> LessonConfig:
    content: dict[str, Any] = {
        "out": out,
        "model": {"width": 4, "tdnn_channels": 16},
        "data": {
            "train": corpus / "train",
            "dev": corpus / "dev",
            "dev_trials": corpus / "trials.txt",
            "cache": corpus / "cache",
        },
        "lessons": {},
        "steps": 20,
        "batch": 8,
        "crops": 40,
        "warmup": 2,
        "bfloat16": False,
        "workers": 0,
        "evaluate_every": 10,
        "optimiser": "muon",
    }
    return LessonConfig.model_validate(content | more)


def test_a_lesson_is_what_the_teacher_says_of_the_same_crop(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Lessons(config(corpus, tmp_path), report=quiet)
    crops, *answers = heard.crops.rows([0, 17, 39])
    expected = Ear()(torch.from_numpy(crops))
    for answer, part, bound in zip(answers, expected, (2e-3, 0.05, 0.05), strict=True):
        np.testing.assert_allclose(answer, part, atol=bound)  # float16 lies between
    lesson = heard[0]
    assert lesson.waveforms.shape == (8, CROP)
    assert lesson.frames.shape == (8, FRAMES, 512)
    assert lesson.hints.shape == (8, FRAMES, 768)
    torch.testing.assert_close(lesson.embeddings.norm(dim=1), torch.ones(8))
    for one, two in zip(lesson, heard[0], strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert not torch.equal(lesson.waveforms, heard[1].waveforms)
    assert lesson.frames.max() > 1.5
    monkeypatch.setattr(lessons, "MOST", 1.5)  # what is rare does not outweigh the rest
    assert heard[0].frames.max() == 1.5


def _alike(crop: Waveform, segment: Waveform) -> float:
    """The largest correlation (cosine) of ``crop`` with as much of ``segment``, wherever."""
    products = fftconvolve(segment, crop[::-1], "valid")
    energies = fftconvolve(segment**2, np.ones_like(crop), "valid")
    return float(np.max(np.abs(products) / np.sqrt(energies)) / np.linalg.norm(crop))


def test_one_crop_in_four_is_as_recorded(corpus: Path, tmp_path: Path) -> None:
    heard = Lessons(config(corpus, tmp_path), report=quiet)
    segments = [heard.sets[0].segment(index) for index in range(len(heard.sets[0]))]
    crops, *_ = heard.crops.rows(range(len(heard.crops)))
    likeness = np.array([max(_alike(crop, segment) for segment in segments) for crop in crops])
    kinds = [likeness[kind::RECORDED] for kind in range(RECORDED)]
    assert (kinds[0] > 0.99).all()
    assert (kinds[1] < 0.99).mean() > 0.5  # recordings, most of them with something over them
    assert np.median(kinds[1]) > np.median(likeness[2:])  # and still those recordings
    assert (np.concatenate(kinds[2:]) < 0.99).all()


def test_crops_go_on_after_a_kill(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Lessons(config(corpus, tmp_path, crops=70), report=quiet)
    calls = itertools.count()

    class Killed(Ear):
        def __call__(self, waveforms: Tensor) -> TeacherOutput:
            if next(calls) == 1:
                raise KeyboardInterrupt
            return super().__call__(waveforms)

    run = config(corpus, tmp_path, crops=70)
    moved = run.data.model_copy(update={"cache": tmp_path / "cache"})
    run = run.model_copy(update={"data": moved})
    (tmp_path / "cache").mkdir()
    for folder in (corpus / "cache").glob("speech-*"):
        (tmp_path / "cache" / folder.name).symlink_to(folder)
    monkeypatch.setattr(lessons, "Listener", Killed)
    with pytest.raises(KeyboardInterrupt):
        Lessons(run, report=quiet)
    again = Lessons(run, report=quiet)
    assert next(calls) == 4  # two batches of the three were left
    for one, two in zip(whole.crops.parts, again.crops.parts, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["frames", "hints", "cosine", "similarity"])
def test_every_loss_can_learn_one_lesson_by_heart(corpus: Path, tmp_path: Path, name: str) -> None:
    weights = dict.fromkeys(("frames", "hints", "cosine", "similarity"), 0) | {name: 1}
    run = config(corpus, tmp_path, lessons=weights, learning_rate=0.01, steps=40)
    task = StudentTask(run, quiet)
    lesson = task.lessons[0]
    losses = [task.learn_from(lesson)["loss"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_killed_run_ends_where_an_unbroken_one_does(corpus: Path, tmp_path: Path) -> None:
    trainer = loop(config(corpus, tmp_path / "whole"), quiet)
    assert isinstance(trainer.task, StudentTask)
    trainer.run()

    def kill(line: str) -> None:
        if line.startswith("step 10: EER"):
            raise KeyboardInterrupt

    broken = config(corpus, tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        loop(broken, kill).run()
    torch.manual_seed(99)
    loop(broken, quiet).run()
    first, second = (load_file(tmp_path / n / "state.safetensors") for n in ("whole", "broken"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0, rtol=0, msg=name)
    encoder, _ = checkpoint.load(tmp_path / "whole")
    assert encoder.config == broken.model
    other = config(corpus, tmp_path / "other", init=str(tmp_path / "whole"),
                   model={"width": 8, "tdnn_channels": 16})  # fmt: skip
    with pytest.raises(CheckpointError, match="Give the same model, or no init"):
        loop(other, quiet)


def test_speech_that_is_too_short_is_named(tmp_path: Path) -> None:
    root = make_corpus(tmp_path)  # recordings of 2 s
    with pytest.raises(UsageError, match=r"no stretch of speech lasts 2\.08 s"):
        Lessons(config(root, tmp_path / "out"), report=quiet)


def test_the_teacher_says_the_same_of_a_crop_alone_and_among_others(
    campplus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "CamPlusPlus", lambda: campplus)
    listener = Listener()
    crops = np.stack([buzz(speaker, 0, CROP / 16_000) for speaker in range(3)], dtype=np.float32)
    together = listener(torch.from_numpy(crops))
    assert [part.shape for part in together] == [(3, 192), (3, FRAMES, 512), (3, FRAMES, 768)]
    alone = listener(torch.from_numpy(crops[1:2]))
    assert alone.embeddings[0] @ together.embeddings[1] > 0.99
    for one, all_three in zip(alone[1:], together[1:], strict=True):
        np.testing.assert_allclose(one[0], all_three[1], atol=0.1)


def two_processes() -> None:
    """Run by torchrun: train, then store what this rank ended with."""
    corpus, out = Path(sys.argv[1]), Path(sys.argv[2])
    data.load_speech = devset.load_speech = whole
    loops.draw = lambda *_: None
    lessons.Listener = teacher.Listener = Ear
    trainer = loop(config(corpus, out, steps=4), print)
    trainer.run()
    tensors = {
        f"{module}.{name}": parameter.detach().contiguous()
        for module in ("encoder", "say")
        for name, parameter in trainer.task.modules[module].named_parameters()
    }
    save_file(tensors, out / f"rank{os.environ['RANK']}.safetensors")


def test_two_processes_hold_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(Path(__file__)), str(corpus), str(tmp_path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.count("step 4: EER") == 1
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=0, rtol=0, msg=name)


if __name__ == "__main__":
    two_processes()
