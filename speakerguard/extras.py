"""Packages that only some commands need, and the extra of this one that brings each.

``pip install speakerguard`` brings what enrols, verifies, identifies and streams; see
``[project.optional-dependencies]`` in pyproject.toml for the rest.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from speakerguard.errors import UsageError

PACKAGES = {  # by the name they are imported as; of several extras the first one is advised
    "evaluate": ("matplotlib", "pydantic", "scipy", "yaml"),
    "demo": ("espeakng_loader",),
    "attack": ("torch", "librosa", "pocketsphinx", "speechmos", "espeakng_loader"),
    "export": ("torch",),
    "formats": ("av",),
    "microphone": ("sounddevice",),
    "openvino": ("openvino",),
    "tensorflow": ("torch", "tensorflow", "h5py"),
    "train": ("torch", "tensorboard"),
}
NEEDS_EVALUATE = ("attack", "export", "tensorflow", "train")
OF_COMMAND = {  # what a program or command of speakerguard needs as a whole
    **dict.fromkeys(("report", "advgan-generate", "advgan-infer"), "attack"),
    **dict.fromkeys(("train", "voices", "advgan-train"), "train"),
    **dict.fromkeys(("export", "quantise"), "export"),
    "convert": "tensorflow",
}


class MissingExtraError(UsageError):
    """A package that this command needs is not installed."""


def packages_of(extra: str) -> tuple[str, ...]:
    """All packages an extra brings that can be imported by name.

    >>> packages_of("train")
    ('torch', 'tensorboard', 'matplotlib', 'pydantic', 'scipy', 'yaml')
    """
    more = PACKAGES["evaluate"] if extra in NEEDS_EVALUATE else ()
    return PACKAGES[extra] + more


def lacking(extra: str) -> list[str]:
    """Packages of an extra that are not installed; none is imported to find out."""
    return [name for name in packages_of(extra) if importlib.util.find_spec(name) is None]


@contextlib.contextmanager
def named(command: str = "") -> Iterator[None]:
    """Turn the lack of such a package into one line that names the extra.

    Args:
        command: of ``speakerguard``, or a program; None of them is a call of the library.

    Raises:
        MissingExtraError: in place of the ModuleNotFoundError that names the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        bringing = [extra for extra in PACKAGES if package in packages_of(extra)]
        if not bringing:
            raise
        whole = OF_COMMAND.get(command)
        extra = whole if whole in bringing else bringing[0]
        raise MissingExtraError(
            f"this needs the package {package}, which is not installed: "
            f"pip install 'speakerguard[{extra}]', or '.[{extra}]' in a clone."
        ) from None
