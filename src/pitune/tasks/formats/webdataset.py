"""WebDataset shards: tars in which files of one stem are one example, `1.jpg` beside `1.txt`, `1.cls` or `1.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.columns import Columns, find_columns
from pitune.tasks.formats.parsing import json_value
from pitune.tasks.formats.reading import IMAGE_SUFFIXES, Format, Found, Options, Reading, is_ignored, split_named
from pitune.tasks.formats.table import as_found, look_for_lists, table_reading
from pitune.tasks.formats.unpack import unpacked
from pitune.tasks.task import Split

_LOOKED_AT = 100  # samples, to learn what there is
_IMAGE, _LABEL, _CAPTION = "image", "label", "caption"


def recognises(path: Path) -> bool:
    """Return whether it is a tar, or a folder with tars in it."""
    return (path.suffix == ".tar" and path.is_file()) or (path.is_dir() and any(path.glob("*.tar")))


def read(path: Path, options: Options) -> Reading:
    """Read the shards of a folder, or one; a shard's name may begin with its part, as in `train-0000.tar`."""
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    first = _samples(shards[0])
    if not first:
        raise InputError(f"{shards[0]}: holds no files; expected images with .txt, .cls or .json files beside them")
    rows = [_row(shards[0], key, files) for key, files in list(first.items())[:_LOOKED_AT]]
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = look_for_lists(shards[0], find_columns(shards[0], names, options), rows[0], options)
    items = (found for shard in shards for found in _items(shard, columns, options))
    return table_reading(path, path.stem, items, columns)


def _samples(shard: Path) -> dict[str, dict[str, Path]]:
    """Return the files of each example by suffix."""
    folder = unpacked(shard)
    samples: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        if any(map(is_ignored, file.relative_to(folder).parts)):
            continue
        stem, _, suffix = file.name.partition(".")
        samples[str(file.parent.relative_to(folder) / stem)][f".{suffix.lower()}"] = file
    return samples


def _items(shard: Path, columns: Columns, options: Options) -> Iterator[Found]:
    split: Split | None = split_named(shard.stem.split("-")[0])
    for key, files in _samples(shard).items():
        where = f"{shard}, sample {key!r}"
        try:
            row = _row(shard, key, files)
        except InputError as error:
            yield Found(where, split=split, problem=str(error))
            continue
        yield as_found(where, row, columns, unpacked(shard), options, split=split)


def _row(shard: Path, key: str, files: Mapping[str, Path]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for suffix, file in files.items():
        if suffix in IMAGE_SUFFIXES:
            row[_IMAGE] = file.read_bytes()
        elif suffix in (".cls", ".txt"):
            row[_LABEL if suffix == ".cls" else _CAPTION] = file.read_text(encoding="utf-8", errors="replace").strip()
        elif suffix == ".json":
            try:
                value = json_value(file.read_bytes())
            except ValueError as error:
                raise InputError(f"{shard}, sample {key!r}: {file.name} is not JSON ({error})") from error
            row |= value if isinstance(value, dict) else {}
    return row


FORMAT = Format("webdataset", "WebDataset shards", recognises, read)
