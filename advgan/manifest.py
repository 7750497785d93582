"""What ``advgan-generate`` wrote: a journal while it runs, a TSV and a JSON for readers.

The journal, ``journal.jsonl``, gets a line as each conversion is finished or has failed, so a
killed run loses at most the one in hand. The other two are made from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerguard.errors import UsageError
from speakerguard.files import replace_file
from speakerguard.journal import Journal

JOURNAL, TSV, JSON = "journal.jsonl", "manifest.tsv", "manifest.json"
COLUMNS = (
    "id", "source", "target", "enrol", "output", "sha256", "before", "after", "accepted",
    "detector_llr", "dnsmos", "word_error_rate", "seconds", "mode", "generator", "vocoder", "error",
)  # fmt: skip


def read_journal(folder: Path) -> dict[str, dict[str, Any]]:
    """Finished and failed conversions by their id.

    Raises:
        UsageError: the journal is damaged.
    """
    rows = Journal(folder / JOURNAL).read()
    if not all(isinstance(row.get("id"), str) for row in rows):
        raise UsageError(f"{folder / JOURNAL}: a line of it has no id. Remove that line.")
    return {row["id"]: row for row in rows}


def append(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a line to the journal.

    Raises:
        UsageError: it cannot be written, as on a full disk; what is there stays.
    """
    Journal(folder / JOURNAL).append(row)


def write_manifest(
    folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> None:
    """Write both manifests, from rows in their planned order."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        lines.append("\t".join(_cell(row.get(name)) for name in COLUMNS))
    replace_file(folder / TSV, "\n".join(lines) + "\n")
    done = [row for row in rows if not row.get("error")]
    summary = {
        "settings": dict(settings),
        "converted": len(done),
        "failed": len(rows) - len(done),
        "accepted": sum(bool(row.get("accepted")) for row in done),
        "rows": list(rows),
    }
    replace_file(folder / JSON, json.dumps(summary, indent=1, default=str) + "\n")


def read_manifest(folder: Path) -> list[Path]:
    """The converted recordings of a folder.

    Raises:
        UsageError: no manifest is there, or it lists no conversion.
    """
    path = folder / TSV
    if not path.is_file():
        raise UsageError(f"{folder}: no {TSV}. Make one with `advgan-generate -o {folder}`.")
    header, *lines = path.read_text("utf-8", "surrogateescape").rstrip("\n").split("\n")
    names = header.split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=False)) for line in lines]
    files = [folder / row["output"] for row in rows if row.get("output") and not row.get("error")]
    if not files:
        raise UsageError(f"{path}: lists no conversion.")
    return files


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return re.sub(r"[\t\n\r]", " ", text)
