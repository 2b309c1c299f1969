"""Every format, in the order in which they are tried: what has a mark of its own before what any folder may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats import coco, coop, elevater, folder, hub, table, webdataset, zipped
from pitune.tasks.formats.reading import Options, Reading


@dataclass(frozen=True)
class Format:
    """A shape that data comes in."""

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Reading]


FORMATS: tuple[Format, ...] = (
    Format("table", table.recognises, table.read),
    Format("CoOp split file", coop.recognises, coop.read),
    Format("ELEVATER index files", elevater.recognises, elevater.read),
    Format("saved data set", hub.recognises, hub.read),
    Format("WebDataset shards", webdataset.recognises, webdataset.read),
    Format("COCO JSON", coco.recognises, coco.read),
    Format("folder of images", folder.recognises, folder.read),
)


def read_path(path: Path, options: Options) -> Reading:
    """Read whatever is at `path`; raise `InputError` if there is nothing, or nothing that is known."""
    if zipped.recognises(path):
        found = read_path(zipped.content(path), options)
        return replace(found, name=path.stem, provenance=str(path))
    for one in FORMATS:
        if one.recognises(path):
            return one.read(path, options)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    names = ", ".join(one.name for one in FORMATS)
    raise InputError(f"{path}: not data of a known form; expected one of: {names}, or a zip with one inside")
