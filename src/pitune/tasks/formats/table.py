"""CSV, TSV, JSONL and Parquet: texts, pairs of texts, images, questions about images, and their labels or answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.columns import Columns, find_columns
from pitune.tasks.formats.reading import Format, Found, Options, Reading, inside, split_named
from pitune.tasks.formats.rows import SUFFIXES, Row, columns_of, rows_of, separator_of
from pitune.tasks.task import Example, Split

_BAR = "|"
_WRITTEN = ("caption", "captions", "summary", "output", "response")  # columns of free text


def recognises(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read(path: Path, options: Options) -> Reading:
    """Read a table; images are looked for beside it. Raises `InputError` if its columns do not make a task."""
    columns = find_columns(path, columns_of(path), options)
    if path.suffix.lower() == ".csv" and (separator := separator_of(path)) != ",":
        options.tell(f"{path}: fields are divided by {separator!r}")
    items = (as_found(f"{path}, row {number}", row, columns, path.parent) for number, row in rows_of(path))
    return table_reading(path, path.stem, items, columns)


def table_reading(path: Path, name: str, items: Iterable[Found], columns: Columns) -> Reading:
    """Return what a table's entries make: classes where a column holds labels, free answers otherwise."""
    metric = "accuracy"
    if columns.references is not None and columns.text and not columns.is_label:
        metric = "vqa-accuracy"
    written = not columns.is_label and columns.target.lower() in _WRITTEN
    return Reading(
        path,
        name,
        items,
        balanced=columns.is_label and columns.candidates is None,
        listed=not written,
        metric="cider" if written and columns.image else metric,
    )


def as_found(
    where: str,
    row: Row,
    columns: Columns,
    folder: Path,
    split: Split | None = None,
    classes: Mapping[int, str] | None = None,
) -> Found:
    """Turn a row into an example without an id, or into what is wrong with it; `classes` names numbered labels."""
    try:
        if columns.split is not None and split is None:
            split = _split(row[columns.split])
        return Found(where, _example(row, columns, folder, classes or {}), split)
    except InputError as error:
        return Found(where, split=split, problem=f"{where}: {error}")


def _example(row: Row, columns: Columns, folder: Path, classes: Mapping[int, str]) -> Example:
    references = _many(row.get(columns.references)) if columns.references else ()
    value = row.get(columns.target)
    if columns.target == columns.references:
        value = max(sorted(references), key=references.count, default=None)  # of equals the first by name
    target = _cell(classes.get(value, value) if isinstance(value, int) else value)
    if None in row:  # how the csv module keeps fields that no column names
        raise InputError("more fields than the header names; put quotes around a field that holds the separator")
    if not target:
        role = "label" if columns.is_label else "answer"
        raise InputError(f"the {role} is empty; fill it in, or remove the row")
    cells = {column: _cell(row.get(column)) for column in columns.text}
    texts = [f"{column}: {cell}" if len(cells) > 1 else cell for column, cell in cells.items() if cell]
    image = _image(row.get(columns.image), folder) if columns.image else None
    if not texts and image is None:
        raise InputError("neither text nor image; expected one or both")
    candidates = _many(row.get(columns.candidates)) if columns.candidates else ()
    if candidates and target not in candidates:
        raise InputError(f"the answer {target!r} is not among its candidates {', '.join(candidates)}")
    return Example("", target, " ".join(texts) or None, image, candidates or None, references)


def _cell(value: Any) -> str:
    """Return a cell's text; whole numbers without `.0`, which is how pandas writes labels beside a gap."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):  # how pandas writes a gap among numbers
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, str | int):
        return str(value).strip()
    raise InputError(f"a cell holds a {type(value).__name__}; expected text or a number")


def _many(value: Any) -> tuple[str, ...]:
    """Return the entries of a list, or of one cell between bars."""
    if value is None:
        return ()
    entries = value if isinstance(value, list | tuple) else str(value).split(_BAR)
    return tuple(_cell(one.get("answer") if isinstance(one, dict) else one) for one in entries)


def _image(value: Any, folder: Path) -> bytes | Path | None:
    if isinstance(value, dict):  # how the `datasets` library stores images in Parquet
        if isinstance(value.get("bytes"), bytes):
            return bytes(value["bytes"])
        value = value.get("path")
    if isinstance(value, bytes):
        return value
    name = _cell(value)
    return _inside(folder, name) if name else None


def _inside(folder: Path, name: str) -> Path:
    try:
        return inside(folder, name)
    except InputError as error:
        raise InputError(f"image {error}") from error


def _split(value: Any) -> Split:
    found = split_named(_cell(value))
    if found is None:
        raise InputError(f"the part is {_cell(value) or 'empty'!r}; expected train, validation or test")
    return found


FORMAT = Format("table", "table", recognises, read)
