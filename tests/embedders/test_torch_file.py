"""Files of torch's are read without torch, and make nothing but numbers."""

import io
import os
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from speakerguard.embedders import torch_file
from speakerguard.errors import CheckpointError


def saved(content: Any, archive: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=archive)
    return file.getvalue()


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_are_what_torch_reads(archive: bool) -> None:
    whole = torch.arange(24.0).view(4, 6)
    content = {
        "step": 3,
        "state": OrderedDict(
            plain=torch.randn(3, 5),
            view=whole[1:, ::2],
            turned=whole.T,
            half=torch.randn(4).half(),
            count=torch.tensor(7),
            empty=torch.zeros(0, 3),
        ),
    }
    found = torch_file.read(saved(content, archive))
    assert found["step"] == 3
    assert list(found["state"]) == list(content["state"])  # type: ignore[call-overload]
    for name, tensor in content["state"].items():  # type: ignore[attr-defined]
        assert found["state"][name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found["state"][name], tensor.numpy())
    assert set(torch_file.arrays(found["state"])) == {"plain", "view", "turned", "half", "empty"}


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo harm",)


@pytest.mark.parametrize("archive", [True, False])
def test_nothing_else_is_made(archive: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"ask for (posix|nt)\.system, so they are not read"):
        torch_file.read(saved({"a": Harm()}, archive))
    assert "harm" not in capfd.readouterr().out


def test_what_is_no_such_file_is_an_error() -> None:
    whole = [saved({"a": torch.randn(50)}, archive) for archive in (True, False)]
    broken = [content[: len(content) // 2] for content in whole]
    for content in (b"", b"PK\x03\x04", b"\x80\x02.", *broken, pickle.dumps({"a": 1})):
        with pytest.raises(CheckpointError, match="weights that"):
            torch_file.read(content)
    with pytest.raises(CheckpointError, match="hold a list, not a dictionary"):
        torch_file.read(saved([torch.zeros(2)], True))


def test_a_tensor_stays_within_its_values() -> None:
    for offset, shape, strides in ((8, (4,), (1,)), (0, (3, 4), (4, 1)), (0, (2,), (-1,))):
        with pytest.raises(CheckpointError, match="reach beyond"):
            torch_file._view(np.zeros(10, np.float32), offset, shape, strides)
