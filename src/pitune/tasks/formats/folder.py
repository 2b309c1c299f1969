"""A folder of images by class: `FOLDER/CLASS/IMAGE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks._image import open_image
from pitune.tasks._task import Example, Task
from pitune.tasks.formats._labelled import labelled_task

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def load(path: Path) -> Task:
    """Return the task whose classes are the sub-folders of `path`.

    Raises `InputError` that names the file or class: no classes, an empty class, a corrupt image,
    a link that leads out of the folder.
    """
    return labelled_task(path, path.resolve().name, _examples(path))


def _examples(path: Path) -> Iterator[Example]:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise InputError(f"{path}: found no sub-folders, expected one for each class with its images inside")
    for folder in folders:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(f"{folder}: class {folder.name!r} is empty, expected images ({', '.join(_SUFFIXES)})")
        for file in files:
            if not file.resolve().is_relative_to(path.resolve()):
                raise InputError(f"{file}: leads out of {path} to {file.resolve()}; copy the image into the folder")
            example = Example(f"{folder.name}/{file.name}", folder.name.replace("_", " "), image=file)
            open_image(example)
            yield example
