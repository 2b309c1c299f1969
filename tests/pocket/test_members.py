"""Files are read in place out of every kind of archive; damage is one clear line."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.pocket.members import read_member, read_members

Write = Callable[[Path, Mapping[str, bytes]], Path]
FILES = {"a/one.txt": b"one", "a/two.bin": random.Random(0).randbytes(30_000), "b/three.txt": b""}
NAMES = ["toy.whl", "toy.tgz", "toy.tar.gz", "toy.deb"]


@pytest.mark.parametrize("name", NAMES)
def test_reads_members(tmp_path: Path, write_archive: Write, name: str) -> None:
    path = write_archive(tmp_path / name, FILES)
    assert dict(read_members(path, lambda member: True)) == FILES  # and no link
    assert [member for member, _ in read_members(path, lambda member: member.startswith("b/"))] == ["b/three.txt"]
    assert read_member(path, "a/one.txt") == b"one"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_member_is_named(tmp_path: Path, write_archive: Write, name: str) -> None:
    with pytest.raises(InputError, match="has no member 'c'"):
        read_member(write_archive(tmp_path / name, FILES), "c")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.97])
def test_a_truncated_archive_is_an_input_error(tmp_path: Path, write_archive: Write, name: str, share: float) -> None:
    path = write_archive(tmp_path / name, FILES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError) as caught:
        dict(read_members(path, lambda member: True))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["toy.whl", "toy.tgz", "toy.deb"])
def test_a_hand_edited_archive_is_an_input_error(tmp_path: Path, write_archive: Write, name: str) -> None:
    path = write_archive(tmp_path / name, FILES)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged archive"):
        dict(read_members(path, lambda member: True))


def test_an_absent_archive_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_member(tmp_path / "none.whl", "a")
