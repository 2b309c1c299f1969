"""A format: a `.notes` file of lines `label: text`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks import Example
from pitune.tasks.formats.reading import Format, Found, Options, Reading


def recognises(path: Path) -> bool:
    """Return whether a path is such a file."""
    return path.suffix == ".notes" and path.is_file()


def read(path: Path, options: Options) -> Reading:
    """Return its lines one by one, wrong ones with what is wrong; nothing is passed over."""
    return Reading(path, path.stem, _lines(path), metric="error-rate")


def _lines(path: Path) -> Iterator[Found]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        label, colon, text = (part.strip() for part in line.partition(":"))
        if not (label and colon and text):
            yield Found(where, problem=f"{where}: expected `label: text`")
        else:
            yield Found(where, Example("", label, text=text))  # ids follow from the content


NOTES = Format("notes", "file of notes", recognises, read)
