"""CSV, TSV, JSONL and Parquet: texts, pairs of texts, images, questions about images, and their labels or answers."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.columns import Columns, find_columns, with_several
from pitune.tasks.formats.reading import (
    IMAGE_SUFFIXES,
    SEVERAL_METRIC,
    Format,
    Found,
    Options,
    Reading,
    by_rarest,
    inside,
    split_named,
)
from pitune.tasks.formats.rows import EXTRA, SUFFIXES, Row, columns_of, rows_of, separator_of
from pitune.tasks.task import Example, Split

_NO_LABEL = ("-1", "-100")  # of GLUE and SNLI, and of losses
_BAR = "|"
_FOLDERS = ("images", "imgs", "train", "test", "data")  # where images lie, if not beside the table
_WRITTEN = ("caption", "captions", "summary", "output", "response")  # columns of free text


def recognises(path: Path) -> bool:
    """Return whether the name ends as a table's does; the file is not opened, and need not exist."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read(path: Path, options: Options) -> Reading:
    """Read a table; images are looked for beside it. Raises `InputError` if its columns do not make a task."""
    columns = look_for_lists(path, find_columns(path, columns_of(path), options), first_row(path), options)
    if path.suffix.lower() == ".csv" and (separator := separator_of(path)) != ",":
        options.tell(f"{path}: fields are divided by {separator!r}")
    items = (as_found(f"{path}, row {number}", row, columns, path.parent, options) for number, row in rows_of(path))
    return table_reading(path, path.stem, items, columns)


def first_row(path: Path) -> Row:
    """Return the first row of a table, none of it if there is none or it cannot be read, which is said later."""
    try:
        return next((row for _, row in rows_of(path)), {})
    except InputError:
        return {}


def look_for_lists(path: Path, columns: Columns, row: Row, options: Options) -> Columns:
    """Return the columns, for several labels a row where the first row's label is a list."""
    several = columns.is_label and not columns.several and isinstance(row.get(columns.target), list | tuple)
    return with_several(path, columns, options) if several else columns


def table_reading(path: Path, name: str, items: Iterable[Found], columns: Columns) -> Reading:
    """Return what a table's entries make: classes where a column holds labels, free answers otherwise."""
    metric = SEVERAL_METRIC if columns.several else "accuracy"
    if columns.references is not None and columns.text and not columns.is_label:
        metric = "vqa-accuracy"
    written = not columns.is_label and columns.target.lower() in _WRITTEN
    return Reading(
        path,
        name,
        by_rarest(items) if columns.several else items,
        columns.labels or None,
        balanced=columns.is_label and columns.candidates is None and not columns.several,
        listed=not written,
        several=columns.several,
        metric="cider" if written and columns.image else metric,
    )


def as_found(
    where: str,
    row: Row,
    columns: Columns,
    folder: Path,
    options: Options,
    *,
    split: Split | None = None,
    classes: Mapping[int, str] | None = None,
) -> Found:
    """Turn a row into an example without an id, or into what is wrong with it; `classes` names numbered labels."""
    try:
        if columns.split is not None and split is None:
            split = _split(row[columns.split])
        if row.get(EXTRA):
            raise InputError("more fields than the header names; put quotes around a field that holds the separator")
        labels = _labels(row, columns, classes or {}) if columns.several else (_target(row, columns, classes or {}),)
        if not labels or (classes and labels[0] in _NO_LABEL):
            return Found(where, split=split)
        hollow = [one for one in labels if columns.is_label and one in _NO_LABEL and one not in options.named]
        if hollow:
            raise InputError(
                f"the label is {hollow[0]}, which often says that there is none; leave such rows out with "
                f"--unlabelled='{hollow[0]}' (`unlabelled` in a YAML task), or name the class with `classes`"
            )
        example = _example(row, columns, folder, labels[0])
        several = labels if len(labels) > 1 else ()
        return Found(where, replace(example, references=several) if columns.several else example, split)
    except InputError as error:
        return Found(where, split=split, problem=f"{where}: {error}")


def as_input(where: str, row: Row, columns: Columns, folder: Path) -> Example:
    """Turn a row into an example without an id or an answer; raise `InputError` if it shows nothing."""
    try:
        if row.get(EXTRA):
            raise InputError("more fields than the header names; put quotes around a field that holds the separator")
        return _example(row, columns, folder, None)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _labels(row: Row, columns: Columns, classes: Mapping[int, str]) -> tuple[str, ...]:
    """Return the labels of a row that may have several, or none; raise `InputError` if a cell does not say."""
    if columns.labels:
        return tuple(name for name in columns.labels if _is_right(name, row.get(name)))
    value = row.get(columns.target)
    if isinstance(value, list | tuple):
        cells = [_cell(classes.get(one, one) if isinstance(one, int) else one) for one in value]
    elif columns.separator:
        cells = _cell(value).split(columns.separator)
    else:
        raise InputError(f"the label is {value!r:.40}; expected a list of labels, as in the first row")
    return tuple(dict.fromkeys(one for one in map(_label, cells) if one))


def _is_right(name: str, value: Any) -> bool:
    """Return what a cell of 0 or 1 says."""
    said = _cell(value).lower()
    if said not in ("0", "1", "false", "true"):
        raise InputError(
            f"column {name!r} holds {said[:40] or 'nothing'!r}; expected 0 or 1, whether the class is right"
        )
    return said in ("1", "true")


def _label(cell: str) -> str:
    """Return a label's one spelling: composed accents, and whole numbers without `.0`."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", unicodedata.normalize("NFC", cell.strip()))


def _target(row: Row, columns: Columns, classes: Mapping[int, str]) -> str:
    """Return the label or answer of a row; raise `InputError` if there is none."""
    references = _many(row.get(columns.references)) if columns.references else ()
    value = row.get(columns.target)
    if columns.target == columns.references:
        value = max(sorted(references), key=references.count, default=None)  # of equals the first by name
    role = "label" if columns.is_label else "answer"
    cell = _cell(classes.get(value, value) if isinstance(value, int) else value)
    if not cell:
        raise InputError(f"the {role} is empty; fill it in, or remove the row")
    return _label(cell) if columns.is_label else unicodedata.normalize("NFC", cell)


def _example(row: Row, columns: Columns, folder: Path, target: str | None) -> Example:
    references = _many(row.get(columns.references)) if columns.references else ()
    cells = {column: _cell(row.get(column)) for column in columns.text}
    texts = [f"{column}: {cell}" if len(cells) > 1 else cell for column, cell in cells.items() if cell]
    image = _image(row.get(columns.image), folder) if columns.image else None
    if not texts and image is None:
        raise InputError("neither text nor image; expected one or both")
    candidates = _many(row.get(columns.candidates)) if columns.candidates else ()
    if candidates and target is not None and target not in candidates:
        raise InputError(f"the answer {target!r} is not among its candidates {', '.join(candidates)}")
    return Example("", target or "", " ".join(texts) or None, image, candidates or None, references)


def _cell(value: Any) -> str:
    """Return a cell's text; whole numbers without `.0`, which is how pandas writes labels beside a gap."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
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
    cells = (_cell(one.get("answer") if isinstance(one, dict) else one) for one in entries)
    return tuple(unicodedata.normalize("NFC", cell) for cell in cells)


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
        place = inside(folder, name)
        if not place.exists():
            names = [name] if Path(name).suffix.lower() in IMAGE_SUFFIXES else [name + one for one in IMAGE_SUFFIXES]
            near = (inside(folder, str(Path(one, name))) for one in (".", *_FOLDERS) for name in names)
            place = next((one for one in near if one.is_file()), place)
    except InputError as error:
        raise InputError(f"image {error}") from error
    except OSError as error:
        raise InputError(f"image {name[:80]!r} cannot be read ({error.strerror})") from error
    return place


def _split(value: Any) -> Split:
    found = split_named(_cell(value))
    if found is None:
        raise InputError(f"the part is {_cell(value) or 'empty'!r}; expected train, validation or test")
    return found


FORMAT = Format("table", "table", recognises, read)
