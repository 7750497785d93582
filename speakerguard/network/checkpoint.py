"""Model files: safetensors that carry their configuration, front end included.

A checkpoint is a folder with ``model.safetensors``, ``calibration.json`` and a model card,
``README.md``; ``model.onnx`` beside them is the network without its weights, for engines other
than torch. Nothing is unpickled, nothing is loaded in part, and a file that does not fit or is
damaged (see :mod:`speakerguard.seal`) is an error, never random weights. Torch is imported only by
what makes or takes a torch module.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

from speakerguard.errors import CheckpointError
from speakerguard.files import whole_file

if TYPE_CHECKING:
    from torch import Tensor

    from speakerguard.network.model import SpeakerEncoder

FORMAT = "speakerguard-model-1"
MODEL_FILE, ONNX_FILE = "model.safetensors", "model.onnx"
MEMBERS_FILE = "members.json"  # of a fused model, see :mod:`speakerguard.embedders.fused`
CALIBRATION_FILE = "calibration.json"
NORMALISED_FILE = "calibration-asnorm.json"  # of scores normalised by a cohort
DEFAULT = "fused"  # decides where nobody says otherwise
TRAINED = "guard"  # what is trained, exported and attacked, where nobody says otherwise
MODEL_VARIABLE = "SPEAKERGUARD_MODEL"
_COPY = "Copy or download it again."
PEER_NAMES = ("campplus", "resemblyzer")  # see :mod:`speakerguard.embedders.peers`


def folder() -> Path:
    """Where shipped checkpoints lie: ``SPEAKERGUARD_CHECKPOINTS``, else in the installed package.

    A checkout has them beside the package, at the top of the repository. Beside an installed
    package nothing is looked for: that folder is everybody's.
    """
    if named := os.environ.get("SPEAKERGUARD_CHECKPOINTS"):
        return Path(named)
    inside = Path(__file__).resolve().parents[1] / "_checkpoints"
    root = inside.parents[1]
    checkout = not inside.is_dir() and (root / "pyproject.toml").is_file()
    return root / "checkpoints" if checkout else inside


def default() -> str:
    """The model that decides where none is named: ``SPEAKERGUARD_MODEL``, else :data:`DEFAULT`."""
    return os.environ.get(MODEL_VARIABLE) or DEFAULT


def guards(files: Sequence[str] = (MODEL_FILE, ONNX_FILE)) -> list[str]:
    """Names of the shipped guards that have one of ``files``, without peers and attackers."""
    found = {path.parent for name in files for path in folder().glob(f"*/{name}")}
    return sorted(path.name for path in found if _other_kind(path) is None)


def available() -> list[str]:
    """Names that can be given as ``--model``: guards and peers."""
    return sorted({*guards((MODEL_FILE, ONNX_FILE, MEMBERS_FILE)), *PEER_NAMES})


def is_name(model: str | os.PathLike[str]) -> bool:
    """Whether ``model`` is a bare name: what is shipped comes before a folder called the same.

    >>> is_name("guard"), is_name("./guard"), is_name(Path("guard"))
    (True, False, False)
    """
    return isinstance(model, str) and model != ".." and Path(model).name == model


def resolve(model: str | os.PathLike[str], files: Sequence[str] = (MODEL_FILE,)) -> Path:
    """The folder of a checkpoint, given its name, its folder or its model file.

    Args:
        model: a text of one part, such as ``guard``, is a name first, whatever lies in the working
            folder; a folder of that name is ``./guard``, or a Path.
        files: names of files of which the folder holds at least one.

    Raises:
        CheckpointError: there is none, or it is of another kind.
    """
    path, given = Path(model), os.fspath(model)
    is_file = path.name == MODEL_FILE and path.is_file()
    places = (folder() / path, path) if is_name(model) else (path,)
    for candidate in (path.parent,) if is_file else places:
        if any((candidate / name).is_file() for name in files):
            if kind := _other_kind(candidate):
                raise CheckpointError(f"{given!r} is a {kind}, which verifies nobody.")
            return candidate
    known = available() if ONNX_FILE in files else guards(files)
    near = difflib.get_close_matches(given, known, 1)
    raise CheckpointError(
        f"no model {given!r}: neither a folder with {' or '.join(files)} nor a known name "
        f"({', '.join(known) or 'there is none'}).{f' Did you mean {near[0]!r}?' if near else ''}"
    )


def _other_kind(folder: Path) -> str | None:
    """What the model file in a folder is by its own account, where that is no guard."""
    try:
        with safe_open(folder / MODEL_FILE, "np") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError):  # none, or damaged: whoever loads it says so
        return None
    return None if about.get("format") == FORMAT else about.get("kind")


def save(encoder: SpeakerEncoder, path: Path, half: bool = False) -> str:
    """Write the encoder to ``path`` at once or not at all; returns its fingerprint.

    Args:
        half: store convolution and affine weights as float16; normalisation stays float32.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in _state(encoder).items()}
    if half:
        state = {n: t.half() if t.ndim > 1 else t for n, t in state.items()}
    config = encoder.config.model_dump_json()
    metadata = {
        "format": FORMAT,
        "config": config,
        "fingerprint": _fingerprint(config, _arrays(state)),
    }
    write_tensors(path, state, metadata)
    return metadata["fingerprint"]


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that appears whole or not at all.

    Raises:
        UsageError: it cannot be written, as on a full disk; an older file of that name stays.
    """
    from safetensors.torch import save  # its save_file would leave a file of its own at a kill

    with whole_file(path) as part:
        part.write_bytes(save(tensors, metadata))


@contextlib.contextmanager
def as_os_error() -> Iterator[None]:
    """Make an OSError again of what safetensors makes of a full disk."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from None


def load(path: Path) -> tuple[SpeakerEncoder, str]:
    """Read a model file: the encoder in evaluation mode, and its fingerprint.

    Raises:
        CheckpointError: missing, damaged, of another program, or not fitting its configuration.
    """
    import torch
    from pydantic import ValidationError

    from speakerguard.network.config import ModelConfig
    from speakerguard.network.model import SpeakerEncoder

    path = resolve(path) / MODEL_FILE if path.is_dir() else path
    metadata, state = _open(path, "pt")
    try:
        config = ModelConfig.model_validate_json(metadata["config"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"{path}: its configuration cannot be used: {error}. It was written by another "
            "version of this program, or is damaged."
        ) from None
    with torch.device("meta"):  # shapes alone: a file that does not fit takes no memory
        _require_fit(path, SpeakerEncoder(config), state)
    found = _checked_fingerprint(path, metadata, _arrays(state))
    encoder = SpeakerEncoder(config)
    encoder.load_state_dict(state, strict=False)
    return encoder.eval(), found


def fingerprint(path: Path) -> str:
    """The fingerprint of a model file, computed from its weights without torch.

    Raises:
        CheckpointError: missing, damaged, or of another program.
    """
    metadata, _ = _open(path, "np", names=())
    entries, start = header(path)
    stored = np.memmap(path, np.uint8, "r")[start:]
    arrays = {name: stored[slice(*entry["data_offsets"])] for name, entry in entries.items()}
    return _checked_fingerprint(path, metadata, arrays)


def header(path: Path) -> tuple[dict[str, Any], int]:
    """Entries of the tensors in a whole safetensors file, by name, and where their data begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def layout(path: Path) -> str:
    """First 16 hex digits of a SHA-256 over where, and as what, a model file keeps each tensor.

    The fingerprint is of the weights alone: another program may write the same ones elsewhere in
    the file, and what refers to them by their place would read others.
    """
    entries, start = header(path)
    return hashlib.sha256(json.dumps([start, entries], sort_keys=True).encode()).hexdigest()[:16]


def read_tensors(
    path: Path,
    framework: Literal["np", "pt"],
    advice: str = _COPY,
    names: Iterable[str] | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata and tensors, numpy's or torch's, of any safetensors file.

    Args:
        names: of the tensors wanted; None takes all.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged or cannot be read; the message ends in ``advice``.
    """
    try:
        with safe_open(path, framework) as file:
            wanted = file.keys() if names is None else names
            return file.metadata() or {}, {name: file.get_tensor(name) for name in wanted}
    except FileNotFoundError:  # so safetensors also says of what it may not read
        if path.exists():
            raise CheckpointError(f"{path}: cannot be read. Check its permissions.") from None
        raise
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # types numpy lacks
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}). {advice}") from None


def _open(
    path: Path, framework: Literal["np", "pt"], names: Iterable[str] | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata and tensors of a model file, as :func:`read_tensors` gives them."""
    try:
        metadata, state = read_tensors(path, framework, names=names)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such model file.") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format is {metadata.get('format', 'not stated')!r}, expected {FORMAT!r}. "
            "It was not written by this program or by another version of it."
        )
    kinds = {entry["dtype"] for entry in header(path)[0].values()}
    if foreign := sorted(kinds - {"F16", "F32"}):
        raise CheckpointError(
            f"{path}: holds {', '.join(foreign)}, where weights are F16 or F32. {_COPY}"
        )
    return metadata, state


def _checked_fingerprint(
    path: Path, metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> str:
    stated = metadata.get("fingerprint")
    try:
        found = _fingerprint(metadata["config"], arrays)
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its configuration cannot be read ({error}). {_COPY}"
        ) from None
    if found != stated:
        raise CheckpointError(
            f"{path}: its fingerprint is {found}, expected {stated}; the file was changed or "
            f"damaged. {_COPY}"
        )
    return found


def _state(encoder: SpeakerEncoder) -> Mapping[str, Tensor]:
    """All tensors but the batch counters, which serve training alone."""
    return {n: t for n, t in encoder.state_dict().items() if not n.endswith("num_batches_tracked")}


def _require_fit(path: Path, encoder: SpeakerEncoder, state: Mapping[str, Tensor]) -> None:
    expected = _state(encoder)
    missing, foreign = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or foreign:
        raise CheckpointError(
            f"{path}: tensors do not fit its configuration; missing {sorted(missing)[:3]}, "
            f"unknown {sorted(foreign)[:3]}."
        )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(tensor.shape)}."
            )


def _arrays(state: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def _fingerprint(config: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """First 16 hex digits of a SHA-256 over configuration and weights."""
    digest = hashlib.sha256(json.dumps(json.loads(config), sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()[:16]
