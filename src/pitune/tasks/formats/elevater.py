"""ELEVATER's index files: lines `<image> <label numbers>` in `train.txt`, `val.txt`, `test.txt`, names in `labels.txt`.

An image may lie in an archive beside the index: `train_images.zip@folder/1.jpg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats.parsing import regular_file
from pitune.tasks.formats.reading import (
    SEVERAL_METRIC,
    Format,
    Found,
    Options,
    Reading,
    inside,
    readable_class,
    split_named,
)
from pitune.tasks.formats.unpack import unpacked
from pitune.tasks.task import Example, Split

_MOST_DIGITS = 9
_LABELS = ("labels.txt", "labelmap.txt")


def recognises(path: Path) -> bool:
    """Return whether it is a folder with an index and with the names of its labels."""
    return path.is_dir() and bool(_labels(path)) and bool(_indexes(path))


def read(path: Path, options: Options) -> Reading:
    """Read a folder of index files; raises `InputError` if a file cannot be read or names no classes."""
    answers = tuple(readable_class(line) for line in _lines(_labels(path)[0]))
    if len(set(answers)) < len(answers):
        twice = next(name for name in answers if answers.count(name) > 1)
        raise InputError(f"{_labels(path)[0]}: lists {twice!r} twice; expected one line for each class")
    indexes = [(file, split, _lines(file)) for file, split in _indexes(path)]
    several = any("," in line.rpartition(" ")[2] for _, _, lines in indexes for line in lines)
    items = (one for file, split, lines in indexes for one in _items(file, split, lines, answers))
    metric = SEVERAL_METRIC if several else "accuracy"
    name = path.resolve().name
    return Reading(path, name, items, answers, balanced=not several, several=several, metric=metric)


def _labels(path: Path) -> list[Path]:
    return [path / name for name in _LABELS if (path / name).is_file()]


def _indexes(path: Path) -> list[tuple[Path, Split]]:
    named = [(file, split_named(file.stem.split("_")[0])) for file in sorted(path.glob("*.txt"))]
    return [(file, split) for file, split in named if split is not None]


def _lines(file: Path) -> list[str]:
    try:
        return [
            line.strip() for line in regular_file(file).read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ]
    except (OSError, UnicodeDecodeError) as error:  # which an InputError is not
        raise InputError(f"{file}: cannot be read as UTF-8 text ({error})") from error


def _items(file: Path, split: Split, lines: Sequence[str], answers: Sequence[str]) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        where = f"{file}, row {number}"
        try:
            image, _, labels = line.rpartition(" ")
            names = [_named(label, answers) for label in labels.split(",")]
            references = tuple(names) if len(names) > 1 else ()
            example = Example(f"{split}/{image}", names[0], image=_image(file.parent, image), references=references)
            yield Found(where, example, split)
        except InputError as error:
            yield Found(where, split=split, problem=f"{where}: {error}")


def _named(label: str, answers: Sequence[str]) -> str:
    if not label.isdecimal() or len(label) > _MOST_DIGITS or int(label) >= len(answers):
        raise InputError(f"the label is {label!r:.40}; expected a number from 0 to {len(answers) - 1}")
    return answers[int(label)]


def _image(folder: Path, name: str) -> Path:
    if not name:
        raise InputError("no image before the label; expected a path, a space and label numbers")
    archive, at, member = name.partition("@")
    return inside(unpacked(inside(folder, archive)), member) if at else inside(folder, name)


FORMAT = Format("elevater", "ELEVATER index files", recognises, read)
