"""What a format finds before anything of it is believed, so that one reader serves both loading and checking."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from pitune.errors import InputError
from pitune.tasks.task import Example, Split

Tell = Callable[[str], None]
Conflicts = Literal["refuse", "drop", "keep"]
CONFLICTS: tuple[Conflicts, ...] = ("refuse", "drop", "keep")
K = TypeVar("K")
SEVERAL_METRIC = "11-point-map"  # where entries have several labels and nothing else is asked for
IMAGE_TEMPLATE = "a photo of a {}."  # of classes of images, CLIP's own
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_SYSTEM = ("thumbs.db", "desktop.ini", "system volume information", "lost+found")
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
    """One entry: an example, or the `problem` that keeps it from being one, in the words of an error message.

    An entry with neither has no label, which is how data sets mark what nobody has labelled: it is left out and told.
    """

    where: str
    example: Example | None = None
    split: Split | None = None
    problem: str = ""


@dataclass(frozen=True)
class Reading:
    """What a format makes of a path; `items` may be read once.

    `answers` is None where the examples tell them; they make no list to choose from where they are not `listed`,
    as captions. Where an entry may have `several` labels, its `references` hold all of them. `remarks` say what was
    doubtful in finding the entries. `templates` say what an answer is matched as, where the data does not go by what
    it is of; `template` is that of an example's text, or where there are none to read, of its answers.
    """

    path: Path
    name: str
    items: Iterable[Found]
    answers: tuple[str, ...] | None = None
    balanced: bool = True
    listed: bool = True
    several: bool = False
    metric: str = "accuracy"
    provenance: str = ""
    template: str = "{}"
    templates: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """How to read: columns by role, whom to tell what was guessed, and what to do with doubtful entries.

    `conflicts` says what becomes of one input with two labels or in two parts: `refuse` raises, `drop` leaves it out,
    `keep` takes the commonest label and the part it is judged in. `named` are labels that are known to be meant, though
    they look as if there were none. `label_separator` stands between several labels in a cell. `limit` is how many
    entries of a part to take at most, evenly from its classes. `templates` of answers go before those of the data.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = lambda _: None
    conflicts: Conflicts = "refuse"
    named: frozenset[str] = frozenset()
    label_separator: str | None = None
    limit: int | None = None
    templates: tuple[str, ...] = ()


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


def with_one_gap(template: str) -> str:
    """Return a template as it is; raise `ValueError` unless it has one `{}`."""
    if template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
        raise ValueError("expected exactly one {} and no other braces")
    return template


def read_templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the templates of answers; raise `InputError` unless each has one `{}`."""
    try:
        return tuple(map(with_one_gap, (given,) if isinstance(given, str) else given))
    except ValueError as error:
        raise InputError(f"the template {given!r}: {error}, as in {IMAGE_TEMPLATE!r}") from error


def templates_for(reading: Reading, examples: Sequence[Example]) -> tuple[str, ...]:
    """Return what answers are matched as: as the data says, or by default the names of classes of images as CLIP's."""
    if reading.templates:
        return reading.templates
    if any(example.text is not None for example in examples):
        return ("{}",)
    if reading.template != "{}":  # there is no text that it could be for
        return (reading.template,)
    classes = reading.listed and (reading.balanced or reading.several)
    chosen = any(example.candidates for example in examples)
    return (IMAGE_TEMPLATE,) if classes and not chosen else ("{}",)


def told_templates(templates: Sequence[str]) -> str:
    """Return what is said of templates in use."""
    if tuple(templates) == ("{}",):
        return "answers are matched as they are"
    many = f", the mean of {len(templates)} templates' vectors" if len(templates) > 1 else ""
    return f"answers are matched as {', '.join(map(repr, templates))}{many}"


def by_rarest(items: Iterable[Found]) -> Iterator[Found]:
    """Yield entries of several labels, each to learn from and drawn as the rarest of its own, whatever their order."""
    found = list(items)
    times = Counter(answer for one in found if one.example for answer in one.example.right)
    for one in found:
        if one.example is None:
            yield one
        else:
            target = min(one.example.right, key=lambda answer: (times[answer], answer))
            yield replace(one, example=replace(one.example, target=target))


def split_named(name: str) -> Split | None:
    """Return the part that a folder, file or cell of this name means, if any."""
    return _SPLIT_NAMES.get(name.strip().lower())


def inside(folder: Path, name: str) -> Path:
    """Return the file `name` of `folder`; raise `InputError` if it leads out of the folder, by `..`, path or link."""
    try:
        root = folder.resolve()
        found = (root / name).resolve()
        if "\\" in name and not found.exists():
            found = (root / name.replace("\\", "/")).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name[:80]!r} is no path ({getattr(error, 'strerror', None) or error})") from error
    if not found.is_relative_to(root):
        raise InputError(f"{name!r} is outside {root}; expected a path inside it")
    return found


def is_file(path: Path) -> bool:
    """Return whether there is a file at a path; of a path that can be none, that there is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def readable_class(name: str) -> str:
    """Return a class's name with spaces for underscores, as it reads in a prompt."""
    return unicodedata.normalize("NFC", name.replace("_", " ").strip())


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is a system's or a program's own, and so no data."""
    return name.startswith((".", "__MACOSX", "@eaDir", "$RECYCLE")) or name.lower() in _SYSTEM


def distinct_classes(names: Mapping[K, str]) -> dict[K, str]:
    """Return readable names of classes by their ids, with the id behind where two classes have one name."""
    readable = {key: readable_class(name) for key, name in names.items()}
    number = Counter(readable.values())
    return {key: name if number[name] == 1 else f"{name} ({key})" for key, name in readable.items()}


def by_id(path: Path, names: Iterable[tuple[K, str]]) -> dict[K, str]:
    """Return the names of classes by id; raise `InputError` if an id has two."""
    found: dict[K, str] = {}
    for key, name in names:
        if found.setdefault(key, name) != name:
            raise InputError(
                f"{path}: the class {key!r} is named {found[key]!r} and {name!r}; expected one name for each"
            )
    return found


def shared_names(path: Path, names: Mapping[K, str]) -> tuple[str, ...]:
    """Return a remark on classes that have one name, if any do."""
    shared = sorted(name for name, number in Counter(map(readable_class, names.values())).items() if number > 1)
    if not shared:
        return ()
    return (f"{path}: several classes are named {shared[0]!r}; they are told apart as '{shared[0]} (ID)'",)
