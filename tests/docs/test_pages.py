"""What the README and the pages must say, whoever changes them."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from support.tooling import load_tool

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(((?!https?://|#)[^)\s#]+)[^)\s]*\)")
PAGES = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "checkpoints/*/README.md")
    for path in sorted(ROOT.glob(pattern))
]
GENERATED = ("commands/", "api/", "cards/")  # by docs/_ext/generated.py


def rooms() -> list[str]:
    """Every package of the two wings that is no door."""
    found = [path.parent for wing in ("speakerguard", "advgan")
             for path in (ROOT / wing).glob("*/__init__.py")]  # fmt: skip
    return [room.name for room in found if not room.name.startswith("_")]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_a_map_names_every_room(page: str) -> None:
    named = re.findall(r"(?:`|\*\*)(\w+)/?(?:`|\*\*)", text_of(page))
    assert set(rooms()) <= set(named)


def test_every_extra_is_told() -> None:
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    told = text_of("docs/install.md")
    assert [extra for extra in extras if f"`{extra}`" not in told] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    folder = (ROOT / page).parent
    lost = [link for link in LINK.findall(text_of(page))
            if not link.startswith(GENERATED) and not (folder / link).exists()]  # fmt: skip
    assert lost == []


def test_the_table_of_four_rows_is_that_of_the_figures() -> None:
    made = load_tool("summary").summary()
    assert f"<!-- summary -->\n\n{made}\n\n<!-- /summary -->" in text_of("README.md")
    found = json.loads(text_of("checkpoints/campplus/results-asnorm.json"))["conditions"]
    assert f"| CAM++, in this program | {100 * found['full'][-1]['eer']:.2f} |" in made
