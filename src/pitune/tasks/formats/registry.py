"""Every shape that data comes in, by name: what has a mark of its own is asked before what any folder may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pitune.errors import InputError
from pitune.registry import Registry
from pitune.tasks.formats import hub, zipped
from pitune.tasks.formats.parsing import regular_file
from pitune.tasks.formats.reading import Format, Options, Reading

_NAMES = ("table", "coop", "elevater", "hub", "webdataset", "coco", "imagefolder", "folder")

_DEEPEST = 3  # archives in archives

FORMATS: Registry[Format] = Registry(
    "format", group="pitune.formats", known={name: f"pitune.tasks.formats.{name}:FORMAT" for name in _NAMES}
)


def read_source(folder: Path, source: str, options: Options) -> Reading:
    """Read a path that starts from `folder`, or `hf:OWNER/NAME`; raise `InputError` if there is nothing known."""
    return hub.read_hub(source, options) if source.startswith(hub.PREFIX) else read_path(folder / source, options)


def read_path(path: Path, options: Options, depth: int = 0) -> Reading:
    """Read whatever is at `path`; raise `InputError` if there is nothing, or nothing that is known."""
    if zipped.recognises(path):
        if depth >= _DEEPEST:
            raise InputError(f"{path}: an archive {depth} archives deep; unpack it yourself")
        inside = read_path(zipped.content(path), options, depth + 1)
        return replace(inside, name=path.stem, provenance=str(path))
    regular_file(path)
    formats = sorted(FORMATS.all(), key=lambda one: one.any_folder)
    for one in formats:
        if one.recognises(path):
            return one.read(path, options)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    names = ", ".join(one.about for one in formats)
    raise InputError(f"{path}: not data of a known form; expected one of: {names}, or a zip with one inside")
