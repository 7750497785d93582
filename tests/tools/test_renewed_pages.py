"""Tables reach the pages from any folder."""

from pathlib import Path

import pytest
from support.tooling import load_tool


def test_every_page_with_the_marks_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_tool("pages")
    assert tool.PAGES[0].is_file(), "the README, wherever this is called from"
    pages = tmp_path / "README.md", tmp_path / "results.md", tmp_path / "missing.md"
    pages[0].write_text("<!-- best -->\n<!-- /best -->\n")
    pages[1].write_text("# Results\n<!-- all --><!-- /all -->\nend\n")
    monkeypatch.setattr(tool, "PAGES", pages)
    monkeypatch.chdir("/")
    tool.renew("all", "| table |")
    assert pages[0].read_text() == "<!-- best -->\n<!-- /best -->\n"
    assert pages[1].read_text() == "# Results\n<!-- all -->\n\n| table |\n\n<!-- /all -->\nend\n"
    assert not pages[2].exists()
