"""Environments that hold exactly what an installed wheel asks for, made off line."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


class Installed:
    """A wheel in an environment of its own; its dependencies are linked from this one.

    Only what the requirements of the core and of ``extras`` lead to is there, so what is left out
    cannot be imported. The home folder is empty, and so is the one programs run in.
    """

    def __init__(self, wheel: Path, place: Path, extras: Iterable[str] = ()) -> None:
        self.here, self.home = place / "here", place / "home"
        for folder in (self.here, self.home):
            folder.mkdir(parents=True)
        venv.create(place / "env")
        self.bin = place / "env" / ("Scripts" if sys.platform == "win32" else "bin")
        asked = [
            self.bin / "python",
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ]
        self.packages = Path(subprocess.check_output(asked, text=True).strip())
        for distribution in closure(wheel, extras):
            for file in distribution.files or []:
                if (top := file.parts[0]) not in ("..", "__pycache__"):
                    link = self.packages / top
                    if not link.exists():
                        link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)

    def run(self, *command: object, feed: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of its programs; what it printed, and its exit code."""
        program, *arguments = map(str, command)
        kept = {k: v for k, v in os.environ.items() if not re.match("PYTHON|SPEAKERGUARD|XDG", k)}
        done = subprocess.run(
            [self.bin / program, *arguments], input=feed, capture_output=True, cwd=self.here,
            env=kept | {"HOME": str(self.home)}, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )


def closure(wheel: Path, extras: Iterable[str]) -> list[metadata.Distribution]:
    """All distributions that a wheel's requirements lead to, as this environment has them."""
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        own = message_from_bytes(archive.read(about)).get_all("Requires-Dist", [])
    found: dict[str, metadata.Distribution] = {}
    waiting = [(text, extra) for extra in ("", *extras) for text in own]
    seen = set(waiting)
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        texts = own
        if name != "speakerguard":
            found[name] = metadata.distribution(name)
            texts = found[name].requires or []
        more = {(text, extra) for extra in ("", *requirement.extras) for text in texts} - seen
        seen |= more
        waiting += more
    return list(found.values())
