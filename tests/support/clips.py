"""Clips laid out as a corpus."""

from pathlib import Path

Clips = dict[str, list[Path]]  # of each speaker


def link_clips(speech: Clips, root: Path) -> Path:
    """The clips as ``<source>/<speaker>/<clip>``, two speakers a source; returns ``root``."""
    for index, (speaker, clips) in enumerate(speech.items()):
        folder = root / "ab"[index // 2] / speaker
        folder.mkdir(parents=True)
        for clip in clips:
            (folder / clip.name).symlink_to(clip)
    return root
