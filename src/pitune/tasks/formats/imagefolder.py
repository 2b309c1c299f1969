"""The image folder of `datasets`: images beside a `metadata.csv` that names them, or such folders by part."""

from __future__ import annotations

from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats.columns import find_columns
from pitune.tasks.formats.reading import Format, Options, Reading, split_named
from pitune.tasks.formats.rows import columns_of, rows_of
from pitune.tasks.formats.table import as_found, first_row, look_for_lists, table_reading

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def recognises(path: Path) -> bool:
    """Return whether it is a folder with such a table in it or in the folder of a part."""
    return path.is_dir() and bool(_tables(path))


def read(path: Path, options: Options) -> Reading:
    """Read the rows of every part's table; raise `InputError` if the tables differ in their columns."""
    tables = _tables(path)
    names = columns_of(tables[0])
    columns = look_for_lists(tables[0], find_columns(tables[0], names, options), first_row(tables[0]), options)
    for table in tables[1:]:
        if set(columns_of(table)) != set(names):
            raise InputError(f"{table}: has other columns than {tables[0]}; expected {', '.join(names)}")
    items = (
        as_found(f"{table}, row {number}", row, columns, table.parent, options, split=split_named(table.parent.name))
        for table in tables
        for number, row in rows_of(table)
    )
    return table_reading(path, path.resolve().name, items, columns)


def _tables(path: Path) -> list[Path]:
    """Return the table at the top, or those of the folders that are named as parts, at the top or in `data`."""
    if own := [path / name for name in _NAMES if (path / name).is_file()]:
        return own[:1]
    for top in (path, path / "data"):
        parts = sorted(one for one in top.glob("*") if split_named(one.name) is not None)
        if found := [part / name for part in parts for name in _NAMES if (part / name).is_file()]:
            return found
    return []


FORMAT = Format("imagefolder", "image folder with metadata", recognises, read)
