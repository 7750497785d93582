"""What is read from YAML, by any program."""

import subprocess
import sys
from pathlib import Path

import pytest

from speakerguard.errors import ConfigError
from speakerguard.settings import Strict, checked, load_as, read_yaml


class Tone(Strict):
    """A section."""

    hertz: float


class Chord(Strict):
    """A file with sections in a list and under names of the reader's own."""

    tones: tuple[Tone, ...] = ()
    named: dict[str, Tone] = {}  # noqa: RUF012


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chord.yaml"
    path.write_text("tones: []\nnamed:\n  a: {hertz: 1, hertz: 2}\n")
    with pytest.raises(ConfigError, match="'hertz' stands there twice; again on line 3"):
        read_yaml(path)


def test_sections_in_lists_know_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "chord.yaml"
    path.write_text("tones:\n- hertz: 440\n- hertz: 1\n  herz: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_as(path, Chord)
    assert str(caught.value) == f"{path}: unknown key 'tones.1.herz'; did you mean 'hertz'?"


def test_sections_under_free_names_are_explained_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x.yaml: unknown key 'named.a.herz'"):
        checked(Path("x.yaml"), {"named": {"a": {"hertz": 1, "herz": 2}}}, Chord)


def test_no_network_is_loaded_to_read_a_file() -> None:
    line = "import sys, speakerguard.settings; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
