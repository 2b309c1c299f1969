"""A zip with any other format in it."""

from __future__ import annotations

from pathlib import Path

from pitune.tasks.formats.reading import is_ignored
from pitune.tasks.formats.unpack import unpacked


def recognises(path: Path) -> bool:
    """Return whether the name ends in `.zip`; what is in it is looked at when it is read."""
    return path.suffix.lower() == ".zip" and path.is_file()


def content(path: Path) -> Path:
    """Return what a zip holds: its folder, or the one folder or file that all is in."""
    place = unpacked(path)
    while place.is_dir():
        entries = [entry for entry in place.iterdir() if not is_ignored(entry.name)]
        if len(entries) != 1:
            break
        place = entries[0]
    return place
