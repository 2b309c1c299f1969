"""CoOp's `split_zhou_<Name>.json`: lists of `[image path, label number, class name]` for train, val and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.parsing import json_value
from pitune.tasks.formats.reading import (
    Format,
    Found,
    Options,
    Reading,
    by_id,
    distinct_classes,
    inside,
    is_file,
    shared_names,
    split_named,
)
from pitune.tasks.task import Example

_PATTERN = "split_zhou_*.json"


def recognises(path: Path) -> bool:
    """Return whether it is such a split file, or a folder with exactly one."""
    return (path.match(_PATTERN) and path.is_file()) or (path.is_dir() and len(list(path.glob(_PATTERN))) == 1)


def read(path: Path, options: Options) -> Reading:
    """Read a split file; its images are looked for beside it and up to two folders down.

    Raises `InputError` if the file is not of this form.
    """
    file = path if path.is_file() else next(path.glob(_PATTERN))
    try:
        parts = json_value(file.read_bytes())
        entries = {name: [_entry(entry) for entry in found] for name, found in parts.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: not a CoOp split file ({error}); expected lists of [path, label, class] for train, val and test"
        ) from error
    folder = _image_folder(file.parent, [entry[0] for found in entries.values() for entry in found])
    name = file.stem.removeprefix("split_zhou_")
    labels = by_id(file, ((label, text) for found in entries.values() for _, label, text in found))
    classes = distinct_classes(dict(sorted(labels.items())))
    items = _items(file, folder, entries, classes)
    return Reading(file, name, items, tuple(classes.values()), remarks=shared_names(file, labels))


def _entry(entry: Any) -> tuple[str, int, str]:
    image, label, name = entry
    if not isinstance(image, str) or not isinstance(label, int) or not isinstance(name, str):
        raise ValueError(f"found the entry {str(entry)[:80]}")
    return image, label, name


def _image_folder(folder: Path, names: Sequence[str]) -> Path:
    """Return the folder that the first image's path starts from."""
    near = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    return next((one for one in near if names and is_file(one / names[0])), folder)


def _items(
    file: Path, folder: Path, parts: dict[str, list[tuple[str, int, str]]], classes: dict[int, str]
) -> Iterator[Found]:
    for part, entries in parts.items():
        split = split_named(part)
        if split is None:
            raise InputError(f"{file}: found a part named {part!r}; expected train, val and test")
        for number, (image, label, _) in enumerate(entries, 1):
            where = f"{file}, {part} entry {number}"
            try:
                example = Example(f"{part}/{image}", classes[label], image=inside(folder, image))
                yield Found(where, example, split)
            except InputError as error:
                yield Found(where, split=split, problem=f"{where}: image {error}")


FORMAT = Format("coop", "CoOp split file", recognises, read)
