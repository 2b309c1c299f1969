"""A prepared table is built once, and a damaged one is never used."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pitune.archives import Archive
from pitune.errors import InputError
from pitune.pocket.prepared import prepared

ARCHIVE = Archive("toy", "pip", "toy", "1", "toy-1.whl", "0" * 64)


def build() -> pa.Table:
    return pa.table({"id": [str(i) for i in range(2000)], "image": [bytes([i % 256]) * 50 for i in range(2000)]})


def never() -> pa.Table:
    raise AssertionError("built again")


def test_is_built_once(pitune_home: Path) -> None:
    first = prepared("pocket/toy", [ARCHIVE], 1, build)
    assert prepared("pocket/toy", [ARCHIVE], 1, never).equals(first)
    assert [path.suffix for path in (pitune_home / "tasks").iterdir() if path.name[0] != "."] == [".parquet"]


def test_another_version_or_archive_is_another_file(pitune_home: Path) -> None:
    other = Archive("toy", "pip", "toy", "1", "toy-1.whl", "1" * 64)
    for archive, version in ((ARCHIVE, 1), (ARCHIVE, 2), (other, 1)):
        prepared("pocket/toy", [archive], version, build)
    assert len(list(pitune_home.glob("tasks/pocket-toy-*.parquet"))) == 3


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped"])
def test_a_damaged_file_is_an_input_error_and_stays(pitune_home: Path, damage: str) -> None:
    prepared("pocket/toy", [ARCHIVE], 1, build)
    (path,) = pitune_home.glob("tasks/pocket-toy-*.parquet")
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    spoiled = {"empty": b"", "truncated": bytes(data[:-9]), "flipped": bytes(data)}[damage]
    path.write_bytes(spoiled)
    with pytest.raises(InputError, match="delete the file and load the task again") as caught:
        prepared("pocket/toy", [ARCHIVE], 1, never)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == spoiled


def test_a_failed_build_leaves_nothing(pitune_home: Path) -> None:
    with pytest.raises(AssertionError):
        prepared("pocket/toy", [ARCHIVE], 1, never)
    assert not list(pitune_home.glob("tasks/*.parquet"))
