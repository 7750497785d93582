"""Tutorials do what they show: blocks marked ``run`` are run, page by page, in an empty folder."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from speakerguard.sound.espeak import synthesise

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(
    r"^<!-- run(?:: exits (?P<codes>[\d or]+))? -->\n```(?P<kind>shell|python)\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
PAGES = ("install", "verify", "threshold", "attack", "convert", "extend")


@dataclass(frozen=True)
class Block:
    """What a reader would run, and what the page shows of its output."""

    kind: str
    code: str
    codes: tuple[int, ...]
    shown: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page that are marked as run."""
    text = page.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    assert text.count("<!-- run") == len(found), f"{page}: a mark without a block"
    return [
        Block(m["kind"], m["code"], codes_of(m["codes"] or "0"), m["shown"] or "") for m in found
    ]


def codes_of(said: str) -> tuple[int, ...]:
    """The exit codes of a mark, such as ``0 or 1``."""
    return tuple(map(int, said.split(" or ")))


def missing(shown: str, output: str) -> list[str]:
    """Lines that are shown without a line of the output that has all their words.

    Words are what holds a letter; figures differ from machine to machine.

    >>> missing("score +0.1 cosine\\nACCEPT ada", "score 0.2 cosine\\nREJECT ada")
    ['ACCEPT ada']
    """
    lines = output.splitlines()
    wanted = [(line, [w for w in line.split() if re.search("[A-Za-z]", w)])
              for line in shown.splitlines()]  # fmt: skip
    return [line for line, words in wanted if not any(all(w in o for w in words) for o in lines)]


def run(block: Block, folder: Path) -> str:
    """The output of a block, both streams; fails unless it ends as the page says."""
    tools = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "SPEAKERGUARD_STORE": str(folder / "store.db"),
    }
    for name in ("SPEAKERGUARD_DATA", "SPEAKERGUARD_MODEL"):  # as it is for a reader
        environment.pop(name, None)
    line = (
        ["sh", "-ec", block.code] if block.kind == "shell" else [sys.executable, "-c", block.code]
    )
    done = subprocess.run(
        line, cwd=folder, env=environment, text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode in block.codes, (
        f"{block.code}\nended in {done.returncode}:\n{done.stdout}"
    )
    return done.stdout


def follow(page: str, folder: Path, voices: dict[str, list[Path]] | None = None) -> None:
    """Run a page from top to bottom; ``voices`` take the place of those it makes itself."""
    for block in blocks_of(DOCS / f"{page}.md"):
        output = run(block, folder)
        for place, clips in zip(("ada", "bruno", "carla"), (voices or {}).values(), strict=False):
            for number, clip in enumerate(clips, start=1):
                if "synthesise" in block.code:
                    samples, rate = soundfile.read(clip)
                    soundfile.write(folder / "voices" / place / f"{number:03d}.wav", samples, rate)
        assert not (lost := missing(block.shown, output)), f"{lost} not in\n{output}"


@pytest.mark.skipif(sys.platform == "win32", reason="the tutorials are written for a POSIX shell")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_does_what_it_shows(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the tutorials are written for a POSIX shell")
@pytest.mark.timeout(900)
def test_enrol_and_verify_holds_for_real_voices(
    shared: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    follow("verify", tmp_path, speech)


@pytest.mark.timeout(900)
def test_the_readme_in_python_runs(tmp_path: Path) -> None:
    voices = [tmp_path / speaker for speaker in ("ada", "bruno")]
    synthesise(tmp_path, speakers=2, utterances=4)
    names = ("a1", "a2", "probe", "alice")
    clips = [*zip(names, sorted(voices[0].iterdir()), strict=True)]
    for name, clip in [*clips, ("mallory", voices[1] / "001.wav")]:
        clip.rename(tmp_path / f"{name}.wav")
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert "steps=30" in code
    answers = run(Block("python", code.replace("steps=30", "steps=1"), (0,), ""), tmp_path)
    assert len(re.findall("accepted=True|accepted=False", answers)) == 2


def test_every_page_with_a_block_to_run_is_run() -> None:
    marked = {page.stem for page in DOCS.glob("*.md") if "<!-- run" in page.read_text("utf-8")}
    assert marked == set(PAGES)


def test_a_line_that_is_not_in_the_output_is_told() -> None:
    assert missing("REJECT  ada\n  score", "ACCEPT  ada\n  score +0.1") == ["REJECT  ada"]
