"""The rows of a table, whatever it is stored as."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.parsing import json_value, regular_file

Row = Mapping[str, Any]
EXTRA = "\0extra"  # the key of a row's fields past the last column
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = (";", "\t", "|", ",")
_LOOKED_AT = 100  # objects of a JSONL file, to learn its fields
_LONGEST_CELL = 1 << 24  # the csv module's own limit, 128 KiB, is less than a long document


def columns_of(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns; raise `InputError` if it cannot be read."""
    suffix = regular_file(path).suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return tuple(pq.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                some = enumerate(islice(file, _LOOKED_AT), 1)
                return tuple(dict.fromkeys(name for number, line in some for name in _object(path, number, line)))
            names = tuple(csv.DictReader(file, delimiter=separator_of(path), strict=True).fieldnames or ())
            twice = next((name for name, number in Counter(names).items() if name and number > 1), None)
            if twice is not None:
                raise InputError(f"{path}: two columns are named {twice!r}; rename one")
            return names
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their numbers, from 1; raise `InputError` naming file and row if one cannot be read."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, _object(path, number, line)
                return
            before = csv.field_size_limit(_LONGEST_CELL)
            try:
                rows = csv.DictReader(file, restkey=EXTRA, delimiter=separator_of(path), strict=True)
                yield from enumerate(rows, 1)
            finally:
                csv.field_size_limit(before)
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error


def separator_of(path: Path) -> str:
    """Return what stands between a table's fields: by its suffix, unless the header holds only another one."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline(1 << 16)
    if usual in header:
        return usual
    return max((usual, *_SEPARATORS), key=header.count)


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    if not line.strip():
        return {}
    try:
        value = json_value(line)
    except ValueError as error:
        raise InputError(f"{path}, row {number}: not JSON ({error}); expected one object a line") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}, row {number}: a JSON {type(value).__name__}; expected one object a line")
    return value


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    kind = path.suffix.lower().lstrip(".")
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    expected = "" if kind == "parquet" else " in UTF-8"
    return InputError(f"{path}: not a readable {kind.upper() if kind != 'parquet' else kind} file{expected} ({reason})")
