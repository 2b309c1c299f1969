"""A folder of images by class: `FOLDER/CLASS/IMAGE`, or `FOLDER/train/CLASS/IMAGE` where the parts are given."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats.reading import (
    IMAGE_SUFFIXES,
    Format,
    Found,
    Options,
    Reading,
    distinct_classes,
    inside,
    is_ignored,
    shared_names,
    split_named,
)
from pitune.tasks.task import Example, Split


def recognises(path: Path) -> bool:
    """Return whether it is a folder of any kind, so that this format is asked last of those that are."""
    return path.is_dir()


def read(path: Path, options: Options) -> Reading:
    """Read a task whose classes are the sub-folders of `path`, or of its parts' folders.

    Where a folder named as a part has class folders inside, the folders named as parts are the parts, and a remark
    names what else there is. Hidden and system files are no data. Raises `InputError` that names the folder without
    classes, or the empty class.
    """
    root = _top(path)
    folders = _folders(root)
    named = [folder for folder in folders if split_named(folder.name) is not None]
    parts = named if named and (len(named) == len(folders) or any(_has_classes(folder) for folder in named)) else []
    tops = parts or [root]
    classes = {top: {folder.name: folder.name for folder in _folders(top)} for top in tops}
    remarks = [one for top, names in classes.items() for one in shared_names(top, names)]
    others = [folder.name for folder in folders if folder not in parts]
    if parts and others:
        left = ", ".join(others)
        remarks.append(f"{root}: leaving out {left}: not named train, validation or test as {parts[0].name} is")
    elif not parts and named:
        remarks.append(f"{root}: {named[0].name!r} is read as a class, since it holds images and no class folders")
    remarks += _left(root, tops)
    items = (one for top in tops for one in _classes(top, root, distinct_classes(classes[top])))
    name = path.resolve().name
    return Reading(path, name, items, remarks=tuple(remarks))


def _top(path: Path) -> Path:
    """Return the folder that the classes or parts are in: `path`, or the one folder in it that holds folders."""
    folders = _folders(path)
    if len(folders) == 1 and split_named(folders[0].name) is None and _has_classes(folders[0]):
        return _top(folders[0])
    return path


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not is_ignored(entry.name))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a folder of images") from error


def _has_classes(path: Path) -> bool:
    """Return whether a folder holds folders with images and no images of its own."""
    own = any(entry.suffix.lower() in IMAGE_SUFFIXES and not is_ignored(entry.name) for entry in path.iterdir())
    return not own and any(_files(folder) for folder in _folders(path))


def _files(path: Path) -> list[Path]:
    """Return the files below a folder but for hidden and system ones, without following links to folders."""
    files = []
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not is_ignored(name)]
        files += [Path(folder, name) for name in names if not is_ignored(name)]
    return sorted(files)


def _left(root: Path, tops: Sequence[Path]) -> list[str]:
    """Return remarks on images beside the classes, and on files in them that are no images."""
    beside = [
        entry
        for top in dict.fromkeys((root, *tops))
        for entry in sorted(top.iterdir())
        if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file() and not is_ignored(entry.name)
    ]
    remarks = [f"{beside[0]}: {len(beside)} image(s) lie beside the class folders and are not read"] if beside else []
    others = Counter(
        file.suffix.lower() or "no suffix"
        for top in tops
        for folder in _folders(top)
        for file in _files(folder)
        if file.suffix.lower() not in IMAGE_SUFFIXES
    )
    if others:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(others.items()))
        remarks.append(f"{root}: files that are no images of a known suffix are not read ({kinds})")
    return remarks


def _classes(path: Path, root: Path, classes: Mapping[str, str]) -> Iterator[Found]:
    split: Split | None = split_named(path.name) if path != root else None
    folders = _folders(path)
    if not folders:
        raise InputError(f"{path}: found no sub-folders, expected one for each class with its images inside")
    for folder in folders:
        files = [file for file in _files(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            problem = f"{folder}: class {folder.name!r} is empty, expected images ({', '.join(IMAGE_SUFFIXES)})"
            yield Found(str(folder), split=split, problem=problem)
        for file in files:
            name = str(file.relative_to(root))
            try:
                inside(root, name)
            except InputError:
                problem = f"{file}: leads out of {root} or nowhere; copy the image into the folder"
                yield Found(name, split=split, problem=problem)
            else:
                yield Found(name, Example(name, classes[folder.name], image=file), split)


FORMAT = Format("folder", "folder of images", recognises, read, any_folder=True)
