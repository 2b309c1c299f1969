"""Data sets of the `datasets` library, saved to disk or `hf:OWNER/NAME` from the hub; neither runs code of theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.extras import need
from pitune.tasks.formats.columns import Columns, find_columns
from pitune.tasks.formats.parsing import json_value, regular_file
from pitune.tasks.formats.reading import Format, Found, Options, Reading, split_named
from pitune.tasks.formats.table import as_found, look_for_lists, table_reading
from pitune.tasks.task import Split

PREFIX = "hf:"
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, NotImplementedError)
_MARKS = ("dataset_dict.json", "state.json")


def recognises(path: Path) -> bool:
    """Return whether it is a folder that `save_to_disk` wrote, by the file of state that it leaves."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


def read(path: Path, options: Options) -> Reading:
    """Read what `save_to_disk` wrote; raises `InputError` if it is damaged or its columns do not make a task."""
    load_from_disk = need("datasets", "hub").load_from_disk

    try:
        _check_names(path)
        found = load_from_disk(str(path))
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: not a data set saved to disk ({why})") from error
    return _reading(path, path.resolve().name, found, options)


def _check_names(path: Path) -> None:
    """Raise `InputError` if a saved data set names parts or files that are not in its folder."""
    whole = path / "dataset_dict.json"
    parts = json_value(regular_file(whole).read_bytes())["splits"] if whole.is_file() else ["."]
    states = [(path / str(part) / "state.json") for part in parts]
    held = [one for state in states if state.is_file() for one in json_value(state.read_bytes())["_data_files"]]
    for name in (*map(str, parts), *(str(one["filename"]) for one in held)):
        if Path(name).name != name and name != ".":
            raise InputError(f"{path}: names {name[:80]!r}, which is not in its folder")


def read_hub(name: str, options: Options) -> Reading:
    """Read `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION` from the hub; raises `InputError` if there is none."""
    datasets = need("datasets", "hub")

    owner_name, _, revision = name.removeprefix(PREFIX).partition("@")
    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", owner_name):
        raise InputError(f"{name[:120]}: expected {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION")
    try:
        found = datasets.load_dataset(owner_name, revision=revision or None)
    except (datasets.exceptions.DatasetNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: cannot be loaded from the hub ({str(error).splitlines()[0]})") from error
    return _reading(Path(owner_name), owner_name.replace("/", "-").lower(), found, options)


def _reading(path: Path, name: str, found: Any, options: Options) -> Reading:
    from datasets import ClassLabel, Dataset, Image

    parts: dict[str, Dataset] = {"": found} if isinstance(found, Dataset) else dict(found)
    first = next(iter(parts.values()))
    columns = find_columns(path, first.column_names, options)
    row = {columns.target: first[columns.target][0]} if len(first) else {}
    columns = look_for_lists(path, columns, row, options)
    for part, data in parts.items():
        if split_named(part) is not None and data.features.get(columns.target) != first.features[columns.target]:
            raise InputError(
                f"{path}: the part {part!r} has another column {columns.target!r}; expected the same in all"
            )
    feature = first.features[columns.target]
    feature = getattr(feature, "feature", feature)  # what a list holds
    classes = dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else {}
    for part, data in parts.items():
        for column, kind in data.features.items():
            if isinstance(kind, Image):
                data = data.cast_column(column, Image(decode=False))
        parts[part] = data
    items = (one for part, data in parts.items() for one in _items(path, part, data, columns, options, classes=classes))
    left = [f"{part!r} ({len(data)} rows)" for part, data in parts.items() if part and split_named(part) is None]
    said = f"{path}: leaving out the parts {', '.join(left)}: not named train, validation or test"
    return replace(table_reading(path, name, items, columns), remarks=(said,) if left else ())


def _items(
    path: Path, part: str, data: Any, columns: Columns, options: Options, *, classes: Mapping[int, str]
) -> Iterator[Found]:
    split: Split | None = split_named(part) if part else None
    if part and split is None:
        return  # such as `unsupervised`, which has no labels
    wanted = (
        columns.target,
        *columns.labels,
        *columns.text,
        columns.image,
        columns.candidates,
        columns.references,
        columns.split,
    )
    read_ = data.select_columns([name for name in dict.fromkeys(wanted) if name])
    for number, row in enumerate(read_, 1):
        where = f"{path}, {part + ' ' if part else ''}row {number}"
        yield as_found(where, row, columns, path, options, split=split, classes=classes)


FORMAT = Format("hub", "saved data set", recognises, read)
