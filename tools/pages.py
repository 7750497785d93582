"""The pages whose tables come from the tools beside this file, wherever those are called from."""

from pathlib import Path

from speakerguard.files import replace_section

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "results.md")
SPEECH = ROOT.parent / "shared" / "corpus" / "dev"  # what they are measured on by default


def renew(name: str, text: str) -> None:
    """Put ``text`` between ``<!-- name -->`` and ``<!-- /name -->`` on each page that has them."""
    for page in PAGES:
        replace_section(page, name, text)
