"""A CSV file with a `label` column and a `text` column, an `image` column (paths), or both."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks._image import open_image
from pitune.tasks._task import Example, Task
from pitune.tasks.formats._labelled import labelled_task


def load(path: Path) -> Task:
    """Return the task in the CSV file at `path`; images are looked for beside it.

    Raises `InputError` that names file and row: a missing column, an empty or NaN label, an image
    that is absent, corrupt or outside the file's folder.
    """
    return labelled_task(path, path.stem, _examples(path))


def _examples(path: Path) -> Iterator[Example]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            columns = tuple(rows.fieldnames or ())
            if "label" not in columns or not {"text", "image"} & set(columns):
                found = ", ".join(columns) or "none"
                raise InputError(f"{path}: found columns {found}; expected label, and text or image or both")
            for number, row in enumerate(rows, start=1):
                yield _example(path, number, row)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file in UTF-8 ({error})") from error


def _example(path: Path, number: int, row: dict[str, str | None]) -> Example:
    where = f"{path}, row {number}"
    label = (row["label"] or "").strip()
    if label.lower() in ("", "nan"):
        raise InputError(f"{where}: the label is {row['label'] or 'empty'}; give every row a label or remove it")
    text, file = row.get("text") or None, row.get("image") or None
    if text is None and file is None:
        raise InputError(f"{where}: neither text nor image; expected one or both")
    example = Example(f"row {number}", label, text=text, image=file and _image(path, where, file))
    if example.image is not None:
        try:
            open_image(example)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return example


def _image(path: Path, where: str, name: str) -> Path:
    folder = path.parent.resolve()
    found = (folder / name).resolve()
    if not found.is_relative_to(folder):
        raise InputError(f"{where}: image {name!r} is outside {folder}; expected a path inside it")
    return found
