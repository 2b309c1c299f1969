"""A folder of images by class: `FOLDER/CLASS/IMAGE`, or `FOLDER/train/CLASS/IMAGE` where the parts are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats.reading import (
    IMAGE_SUFFIXES,
    Format,
    Found,
    Options,
    Reading,
    is_system,
    readable_class,
    split_named,
)
from pitune.tasks.task import Example, Split


def recognises(path: Path) -> bool:
    return path.is_dir()


def read(path: Path, options: Options) -> Reading:
    """Read a task whose classes are the sub-folders of `path`, or of its parts' folders.

    Where a folder that is named as a part holds folders, parts are given; others beside them are left out, and
    that is told. Raises `InputError` that names the folder without classes, or the empty class.
    """
    folders = _folders(path)
    parts = [folder for folder in folders if split_named(folder.name)]
    if parts and (len(parts) == len(folders) or any(_folders(part) for part in parts)):
        if rest := [folder.name for folder in folders if folder not in parts]:
            options.tell(
                f"{path}: leaving out {', '.join(rest)}: not named train, validation or test as {parts[0].name} is"
            )
        return Reading(path, path.resolve().name, (one for folder in parts for one in _classes(folder, path)))
    return Reading(path, path.resolve().name, _classes(path, path))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not is_system(entry))


def _images(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in files if not any(map(is_system, (file, *file.relative_to(folder).parents))))


def _classes(path: Path, root: Path) -> Iterator[Found]:
    split: Split | None = split_named(path.name) if path != root else None
    folders = _folders(path)
    if not folders:
        raise InputError(f"{path}: found no sub-folders, expected one for each class with its images inside")
    for folder in folders:
        files = _images(folder)
        if not files:
            problem = f"{folder}: class {folder.name!r} is empty, expected images ({', '.join(IMAGE_SUFFIXES)})"
            yield Found(str(folder), split=split, problem=problem)
        for file in files:
            name = str(file.relative_to(root))
            if not file.resolve().is_relative_to(root.resolve()):
                problem = f"{file}: leads out of {root} to {file.resolve()}; copy the image into the folder"
                yield Found(name, split=split, problem=problem)
            else:
                yield Found(name, Example(name, readable_class(folder.name), image=file), split)


FORMAT = Format("folder", "folder of images", recognises, read, any_folder=True)
