"""Pocket's tasks: each is well formed, kept once it is read, and known before anything heavy loads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import pitune
from pitune.pocket import ARCHIVES, FAMILY, LIBRARY, Source
from pitune.pocket.library import MODULES, source
from pitune.pocket.parts import Item
from pitune.pocket.source import load
from pitune.tasks import LIBRARIES, Example, Task


def test_it_comes_by_the_entry_points_of_the_package() -> None:
    from pitune.backbones import FAMILIES

    assert LIBRARIES.get("pocket") is LIBRARY
    assert FAMILIES.get("pocket") is FAMILY


@pytest.mark.parametrize("module", MODULES)
def test_the_names_are_those_of_the_sources(module: str) -> None:
    found = import_module(f"pitune.pocket.sources.{module}").SOURCES
    assert tuple(one.name for one in found) == tuple(f"pocket/{name}" for name in MODULES[module])


@pytest.mark.parametrize("name", LIBRARY.names())
def test_every_source_is_well_formed(name: str) -> None:
    one = source(name)
    assert one.archives
    assert set(one.archives) <= set(ARCHIVES) == set(LIBRARY.archives())
    assert all(archive.split()[-1] for archive in one.provenance().split(", "))
    if one.answers is not None:
        assert one.answer_template.format("X") != one.answer_template


def test_names_load_no_source_and_no_torch_of_their_own() -> None:
    code = (
        "import sys, pitune.tasks; before = set(sys.modules)\n"
        "from pitune.pocket import LIBRARY; LIBRARY.names(), LIBRARY.archives(), LIBRARY.collections\n"
        "own = ('pitune.pocket', 'pitune.archives')\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith(own)\n"
        "      and name.split('.')[0] in ('pitune', 'torch', 'transformers', 'numpy', 'networkx')), len(before) > 0)\n"
        "print(*(name for name in sys.modules if name.startswith('pitune.pocket.sources')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(pitune.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "True\n\n"


def test_a_source_is_read_once_and_loads_alike(pitune_home: Path) -> None:
    reads = iter([1])

    def read() -> Iterator[Item]:
        next(reads)
        for i in range(60):
            yield Item(Example(f"{i}", "even" if i % 2 == 0 else "odd", text=f"number {i} it is"), f"{i}")

    toy = Source("pocket/toy", "toy", (), "CC0", ("even", "odd"), read, answer_template="It is {}.")
    first, second = load(toy), load(toy)
    assert isinstance(first, Task)
    assert first == second
    assert first.data_hash == second.data_hash
    assert re.fullmatch("[0-9a-f]{64}", first.data_hash)
    assert first.answer_text("odd") == "It is odd."
    assert sum(map(len, first.splits.values())) == 60
    assert all(first.splits[split] for split in ("train", "validation", "test"))
