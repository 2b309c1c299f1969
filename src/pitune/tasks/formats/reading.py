"""What a format finds before anything of it is believed, so that one reader serves both loading and checking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.task import Example, Split

Tell = Callable[[str], None]
_LEFT_BEHIND = ("__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Found:
    """One entry: an example, or the `problem` that keeps it from being one, in the words of an error message."""

    where: str
    example: Example | None = None
    split: Split | None = None
    problem: str = ""


@dataclass(frozen=True)
class Reading:
    """What a format makes of a path; `items` may be read once.

    `answers` is None where the examples tell them; they make no list to choose from where they are not `listed`,
    as captions.
    """

    path: Path
    name: str
    items: Iterable[Found]
    answers: tuple[str, ...] | None = None
    balanced: bool = True
    listed: bool = True
    metric: str = "accuracy"
    provenance: str = ""


@dataclass(frozen=True)
class Options:
    """How to read: columns by role, and whom to tell what was guessed."""

    columns: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = lambda _: None


@dataclass(frozen=True)
class Format:
    """A shape that data comes in: whether a path has it, and what is there.

    `about` is what messages call it. One that takes `any_folder` is asked after all others.
    """

    name: str
    about: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Reading]
    any_folder: bool = False


def split_named(name: str) -> Split | None:
    """Return the part that a folder, file or cell of this name means, if any."""
    return _SPLIT_NAMES.get(name.strip().lower())


def is_system(path: Path) -> bool:
    """Return whether a file or folder is no data but what systems leave behind: hidden ones, `__MACOSX`, thumbnails."""
    return (path.name.startswith(".") and path.name not in (".", "..")) or path.name in _LEFT_BEHIND


def inside(folder: Path, name: str) -> Path:
    """Return the file `name` of `folder`; raise `InputError` if it leads out of the folder, by `..`, path or link."""
    root = folder.resolve()
    found = (root / name).resolve()
    if not found.is_relative_to(root):
        raise InputError(f"{name!r} is outside {root}; expected a path inside it")
    return found


def readable_class(name: str) -> str:
    """Return a class's name with spaces for underscores, as it reads in a prompt."""
    return name.replace("_", " ").strip()
